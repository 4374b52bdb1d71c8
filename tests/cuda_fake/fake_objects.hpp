// The objects that handles of the fake runtime point to.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/cuda_fake/fake.hpp"

namespace plumb::fake {

struct Operation {
  std::string name;
  std::vector<Access> accesses;
  std::function<bool()> step;
  std::vector<std::shared_ptr<Operation>> after;
  bool is_done = false;
};

struct StreamObject {
  int index = 0;
  std::string name;
  std::deque<std::shared_ptr<Operation>> queue;
  std::vector<std::shared_ptr<Operation>> waits;  // of the next operation
  Clock clock;
  std::string newest;  // operation, events aside
};

struct EventObject {
  bool is_recorded = false;
  std::string after;
  Clock forgotten;                       // what it would mean if a record had not been forgotten
  std::shared_ptr<Operation> operation;  // null: has happened
  Clock clock;
};

StreamObject* new_stream();
StreamObject& stream_object(cudaStream_t stream);
void record(EventObject& event, cudaStream_t on);
void wait(cudaStream_t waiting, const EventObject& event);
bool has_happened(const EventObject& event);
/// The host has waited for what this clock names: operations enqueued from now on happen after it.
void host_saw(const Clock& clock);
void host_waits_for_all();

}  // namespace plumb::fake
