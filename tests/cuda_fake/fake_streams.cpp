#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <random>
#include <stdexcept>
#include <thread>
#include <utility>

#include "tests/cuda_fake/fake.hpp"
#include "tests/cuda_fake/fake_objects.hpp"

namespace plumb::fake {

namespace {

constexpr std::chrono::seconds kTimeLimit{60};
constexpr std::chrono::microseconds kPause{50};  // while other processes are behind
constexpr size_t kAlignment = 4096;

struct State {
  Faults faults;
  std::mt19937_64 random;
  AccessLog log;
  std::map<void*, std::pair<size_t, Owner>> allocations;
  std::vector<std::unique_ptr<StreamObject>> streams;  // also those destroyed
  StreamObject* compute = nullptr;
  Clock host;  // what the host has waited for
  std::vector<std::string> errors;
  std::map<std::string, int> objects;
  int64_t num_allocations = 0, num_waits = 0, num_records = 0;
  std::string forgotten;
};

State& state() {
  static State* const state = new State;  // outlives tensors of static duration
  return *state;
}

bool is_ready(const Operation& operation) {
  return std::all_of(operation.after.begin(), operation.after.end(), [](const auto& other) { return other->is_done; });
}

std::string describe_queues() {
  std::string text;
  for (const auto& stream : state().streams)
    if (!stream->queue.empty()) {
      const Operation& front = *stream->queue.front();
      text += fmt::format("; {} {} {}", stream->name, is_ready(front) ? "is in" : "waits before", front.name);
    }
  return text;
}

}  // namespace

Faults& faults() { return state().faults; }
int64_t num_waits() { return state().num_waits; }
int64_t num_records() { return state().num_records; }
const std::string& forgotten() { return state().forgotten; }

void report(std::string error) {
  std::vector<std::string>& errors = state().errors;
  if (std::find(errors.begin(), errors.end(), error) == errors.end()) errors.push_back(std::move(error));
}

void count_object(const char* kind, int change) { state().objects[kind] += change; }

void start(uint64_t seed, const Faults& faults) {
  State& s = state();
  s.faults = faults;
  s.random.seed(seed);
  s.streams.clear();
  s.compute = nullptr;
  s.host.clear();
  s.errors.clear();
  s.objects.clear();
  s.forgotten.clear();
  s.num_allocations = s.num_waits = s.num_records = 0;
}

std::vector<std::string> end() {
  State& s = state();
  for (const auto& [kind, count] : s.objects)
    if (count != 0) report(fmt::format("{} {} still exist", count, kind));
  for (const auto& stream : s.streams)
    if (!stream->queue.empty()) report(stream->name + " still has work: " + stream->queue.front()->name);
  for (const auto& [pointer, block] : s.allocations)
    if (block.second != Owner::kTensor) report(fmt::format("{} bytes are not freed", block.first));
  return std::exchange(s.errors, {});
}

// Memory.

void* allocate(size_t bytes, Owner owner) {
  State& s = state();
  if (owner != Owner::kTensor && s.num_allocations++ == s.faults.failing_allocation) return nullptr;
  const size_t rounded = (std::max<size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  void* const pointer = std::aligned_alloc(owner == Owner::kTensor ? 64 : kAlignment, rounded);
  std::memset(pointer, 0xff, bytes);  // NaN in every type
  s.allocations[pointer] = {bytes, owner};
  if (owner != Owner::kHost) s.log.add_block(pointer, bytes);
  return pointer;
}

bool release(void* pointer, Owner owner) {
  if (pointer == nullptr) return true;
  State& s = state();
  const auto found = s.allocations.find(pointer);
  if (found == s.allocations.end() || found->second.second != owner) return false;
  const auto* const begin = static_cast<const std::byte*>(pointer);
  const std::byte* const end = begin + found->second.first;
  for (const auto& stream : s.streams)
    for (const auto& operation : stream->queue)
      for (const Access& access : operation->accesses)
        if (const auto* const at = static_cast<const std::byte*>(access.begin); at >= begin && at < end)
          report(fmt::format("memory is freed that {} on {} still needs", operation->name, stream->name));
  s.allocations.erase(found);
  s.log.remove_block(pointer);
  std::free(pointer);
  return true;
}

bool is_allocated(const void* begin, size_t bytes, Owner owner) {
  const auto& allocations = state().allocations;
  auto after = allocations.upper_bound(const_cast<void*>(begin));
  if (after == allocations.begin()) return false;
  const auto& [block, size_and_owner] = *--after;
  return size_and_owner.second == owner &&
         static_cast<const std::byte*>(begin) + bytes <= static_cast<const std::byte*>(block) + size_and_owner.first;
}

// Streams.

StreamObject* new_stream() {
  State& s = state();
  const auto index = static_cast<int>(s.streams.size());
  s.streams.push_back(std::make_unique<StreamObject>());
  s.streams.back()->index = index;
  s.streams.back()->name = fmt::format("stream {}", index);
  return s.streams.back().get();
}

StreamObject& stream_object(cudaStream_t stream) {
  if (stream == nullptr) throw std::logic_error("the default stream is not used");
  return *reinterpret_cast<StreamObject*>(stream);
}

void compute_on(cudaStream_t stream) {
  state().compute = &stream_object(stream);
  state().compute->name = "the compute stream";
}

bool is_idle(cudaStream_t stream) { return stream_object(stream).queue.empty(); }

bool run_one() {
  std::vector<StreamObject*> order;
  for (const auto& stream : state().streams)
    if (!stream->queue.empty()) order.push_back(stream.get());
  std::shuffle(order.begin(), order.end(), state().random);
  for (StreamObject* const stream : order) {
    const std::shared_ptr<Operation> front = stream->queue.front();
    if (!is_ready(*front) || !front->step()) continue;
    front->is_done = true;
    stream->queue.pop_front();
    return true;
  }
  return false;
}

void run_until(const std::function<bool()>& condition, const std::string& what) {
  const auto limit = std::chrono::steady_clock::now() + kTimeLimit;
  while (!condition()) {
    if (run_one()) continue;
    std::this_thread::sleep_for(kPause);
    if (std::chrono::steady_clock::now() > limit)
      throw std::runtime_error(fmt::format("{} never ends{}", what, describe_queues()));
  }
}

void enqueue(cudaStream_t to, std::string name, std::vector<Access> accesses, std::function<bool()> step) {
  State& s = state();
  StreamObject& stream = stream_object(to);
  join(stream.clock, s.host);
  stream.clock.resize(s.streams.size());
  ++stream.clock[stream.index];
  stream.newest = name;
  for (const Access& access : accesses)
    s.log.record({name, stream.index, stream.name}, stream.clock, access, [](std::string e) { report(std::move(e)); });
  if (&stream == s.compute) {
    run_until(step, name);
    return;
  }
  stream.queue.push_back(std::make_shared<Operation>(
      Operation{std::move(name), std::move(accesses), std::move(step), std::exchange(stream.waits, {})}));
  for (uint64_t left = s.random() % 3; left > 0; --left) run_one();  // a GPU may be as far as the host, or behind
}

void touch(const std::string& name, const std::vector<Access>& accesses) {
  enqueue(reinterpret_cast<cudaStream_t>(state().compute), name, accesses, [] { return true; });
}

void record(EventObject& event, cudaStream_t on) {
  const std::string after = stream_object(on).newest;
  if (state().num_records++ == state().faults.forgotten_record) {
    event.forgotten = stream_object(on).clock;
    return;
  }
  enqueue(on, "event", {}, [] { return true; });
  StreamObject& stream = stream_object(on);
  event.operation = stream.queue.empty() ? nullptr : stream.queue.back();
  event.clock = stream.clock;
  event.is_recorded = true;
  event.forgotten.clear();
  event.after = stream.newest = after;
}

void wait(cudaStream_t waiting, const EventObject& event) {
  StreamObject& stream = stream_object(waiting);
  if (!implies(stream.clock, event.forgotten))
    state().forgotten = fmt::format("{} waits for what is not recorded", stream.name);
  if (!event.is_recorded) return;
  if (state().num_waits++ == state().faults.forgotten_wait) {
    if (!implies(stream.clock, event.clock))
      state().forgotten = fmt::format("{} waits for {}", stream.name, event.after);
    return;
  }
  if (&stream == state().compute) run_until([&] { return has_happened(event); }, "a wait of the compute stream");
  join(stream.clock, event.clock);
  if (!has_happened(event)) stream.waits.push_back(event.operation);
}

bool has_happened(const EventObject& event) { return event.operation == nullptr || event.operation->is_done; }

void host_saw(const Clock& clock) { join(state().host, clock); }

void host_waits_for_all() {
  const auto& streams = state().streams;
  run_until([&] { return std::all_of(streams.begin(), streams.end(), [](auto& one) { return one->queue.empty(); }); },
            "cudaDeviceSynchronize");
  for (const auto& stream : streams) host_saw(stream->clock);
}

}  // namespace plumb::fake
