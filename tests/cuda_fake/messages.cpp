#include "tests/cuda_fake/messages.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "tests/cuda_fake/fake.hpp"

namespace plumb::fake {

namespace {

MPI_Comm operations = MPI_COMM_NULL, bootstrap = MPI_COMM_NULL;

}  // namespace

MPI_Comm operations_mpi() { return operations; }
MPI_Comm bootstrap_mpi() { return bootstrap; }

void connect_processes() {
  if (operations != MPI_COMM_NULL) return;
  MPI_Comm_dup(MPI_COMM_WORLD, &operations);
  MPI_Comm_dup(MPI_COMM_WORLD, &bootstrap);
}

Messages::Messages(const Ranks& ranks, std::string operation, int64_t number, std::vector<Part> sends,
                   std::vector<Part> receives)
    : ranks_(ranks), operation_(std::move(operation)), number_(number), sends_(std::move(sends)) {
  for (const Part& part : receives) expected_.push_back({part, {}});
}

Messages::~Messages() {  // after an abort peers may never receive: MPI keeps the bytes of what is under way
  static std::list<Sent>& abandoned = *new std::list<Sent>;
  for (Expected& one : expected_)
    if (one.request != MPI_REQUEST_NULL) MPI_Wait(&one.request, MPI_STATUS_IGNORE);
  abandoned.splice(abandoned.end(), sent_);
}

std::vector<std::byte> Messages::pack(const Part& part) const {
  Header header = {number_, static_cast<int64_t>(part.bytes), {}};
  std::copy_n(operation_.begin(), std::min(operation_.size(), header.operation.size() - 1), header.operation.begin());
  std::vector<std::byte> message(sizeof header + part.bytes);
  std::memcpy(message.data(), &header, sizeof header);
  std::memcpy(message.data() + sizeof header, part.data, part.bytes);
  return message;
}

void Messages::unpack(const Expected& expected) {
  Header header;
  std::memcpy(&header, expected.message.data(), sizeof header);
  if (header.number != number_ || header.bytes != static_cast<int64_t>(expected.part.bytes))
    report(fmt::format("operation {} of rank {}, {}, expects {} bytes from rank {}, whose operation {}, {}, sends {}",
                       number_, ranks_.mine, operation_, expected.part.bytes, expected.part.peer, header.number,
                       header.operation.data(), header.bytes));
  std::memcpy(expected.part.data, expected.message.data() + sizeof header,
              std::min(expected.part.bytes, expected.message.size() - sizeof header));
}

/// A rank's parts for itself, in order.
void Messages::copy_to_myself() {
  auto expected = expected_.begin();
  for (const Part& part : sends_) {
    if (part.peer != ranks_.mine) continue;
    expected = std::find_if(expected, expected_.end(), [&](auto& one) { return one.part.peer == ranks_.mine; });
    if (expected == expected_.end()) {
      report(fmt::format("{} sends to its own rank what it does not receive", operation_));
      return;
    }
    expected->message = pack(part);
    unpack(*expected);
    expected->is_done = true;
  }
}

void Messages::start() {
  is_started_ = true;
  copy_to_myself();
  for (const Part& part : sends_) {
    if (part.peer == ranks_.mine) continue;
    Sent& sent = sent_.emplace_back();
    sent.message = pack(part);
    MPI_Isend(sent.message.data(), static_cast<int>(sent.message.size()), MPI_BYTE, ranks_.in_world[part.peer],
              ranks_.tag, operations, &sent.request);
  }
}

bool Messages::receive(Expected& expected) {
  int is_there = 0;
  if (expected.request == MPI_REQUEST_NULL) {
    MPI_Message message = MPI_MESSAGE_NULL;
    MPI_Status status;
    MPI_Improbe(ranks_.in_world[expected.part.peer], ranks_.tag, operations, &is_there, &message, &status);
    if (is_there == 0) return false;
    int bytes = 0;
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    expected.message.resize(bytes);
    MPI_Imrecv(expected.message.data(), bytes, MPI_BYTE, &message, &expected.request);
  }
  MPI_Test(&expected.request, &is_there, MPI_STATUS_IGNORE);
  if (is_there == 0) return false;
  unpack(expected);
  return expected.is_done = true;
}

bool Messages::advance() {
  if (!is_started_) start();
  bool is_done = true;
  std::set<int> waits_for;  // messages of one peer are received in order
  for (Expected& one : expected_) {
    if (one.is_done || waits_for.contains(one.part.peer) || receive(one)) continue;
    waits_for.insert(one.part.peer);
    is_done = false;
  }
  for (Sent& one : sent_) {
    int is_sent = 0;
    MPI_Test(&one.request, &is_sent, MPI_STATUS_IGNORE);
    is_done = is_done && is_sent != 0;
  }
  return is_done && std::all_of(expected_.begin(), expected_.end(), [](const auto& one) { return one.is_done; });
}

}  // namespace plumb::fake
