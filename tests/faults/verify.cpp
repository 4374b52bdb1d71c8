#include "tests/faults/verify.hpp"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "io/checkpoint/checkpoint.hpp"
#include "io/checkpoint/directory.hpp"
#include "lib/base/random.hpp"
#include "partition/communicator.hpp"
#include "tests/faults/damage.hpp"

namespace plumb::test {

namespace fs = std::filesystem;

namespace {

/// Returns the result of `body` in a child process, because MPI can be started only once per process.
nlohmann::json in_child(const std::function<nlohmann::json()>& body) {
  std::array<int, 2> ends = {};
  if (::pipe(ends.data()) != 0) throw std::runtime_error("pipe");
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(ends[0]);
    ::setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    ::setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    ::setenv("OMPI_MCA_ess_singleton_isolated", "1", 1);  // no daemon
    std::string text;
    try {
      const MpiRuntime runtime;
      text = body().dump();
    } catch (const std::exception& error) {
      text = nlohmann::json(std::vector<std::string>{error.what()}).dump();
    }
    const bool is_written = ::write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
    ::_exit(is_written ? 0 : 1);
  }
  ::close(ends[1]);
  std::string text;
  std::array<char, 4096> buffer = {};
  for (ssize_t n; (n = ::read(ends[0], buffer.data(), buffer.size())) > 0;) text.append(buffer.data(), n);
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (status != 0) throw std::runtime_error("the process that verifies checkpoints failed");
  return nlohmann::json::parse(text);
}

std::string problem_of(const Communicator& comm, const std::string& checkpoint) {
  try {
    open_checkpoint(comm, checkpoint);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

FlipCount flip_class(const Communicator& comm, const std::string& checkpoint, const std::string& file_class,
                     const std::vector<std::string>& files, int num_places) {
  FlipCount count{file_class};
  for (int i = 0; i < num_places; ++i) {
    const auto draw = [&](uint64_t what) { return random_bits(11, what, static_cast<uint64_t>(i)); };
    const std::string& path = files[draw(0) % files.size()];
    const std::string intact = read_file(path);
    std::string flipped = intact;
    char& byte = flipped[draw(1) % flipped.size()];
    byte = static_cast<char>(byte ^ (1 << (draw(2) % 8)));
    write_file(path, flipped);
    ++count.num_flipped;
    count.num_found += problem_of(comm, checkpoint).empty() ? 0 : 1;
    write_file(path, intact);
  }
  return count;
}

}  // namespace

std::vector<std::string> damaged_checkpoints(const std::string& run) {
  return in_child([&] {
           const Communicator comm;
           std::vector<std::string> problems;
           for (const std::string stage : {"sft", "dpo", "grpo"})
             for (const CheckpointPlace& place : list_checkpoints(run + "/" + stage + "/checkpoints"))
               if (const std::string problem = problem_of(comm, place.path); !problem.empty())
                 problems.push_back(problem);
           return nlohmann::json(problems);
         })
      .get<std::vector<std::string>>();
}

std::vector<FlipCount> flip_bytes(const std::string& checkpoint, int num_places) {
  const nlohmann::json counts = in_child([&] {
    const Communicator comm;
    if (const std::string problem = problem_of(comm, checkpoint); !problem.empty()) throw std::runtime_error(problem);
    nlohmann::json all;
    const std::vector<std::pair<std::string, std::string>> classes = {
        {"rank file", ".bin"}, {"manifest.json", "manifest.json"}, {"COMMIT", "COMMIT"}};
    for (const auto& [name, ending] : classes) {
      const FlipCount count = flip_class(comm, checkpoint, name, files_below(checkpoint, ending), num_places);
      all.push_back({name, count.num_flipped, count.num_found});
    }
    return all;
  });
  std::vector<FlipCount> result;
  for (const nlohmann::json& count : counts)
    result.push_back({count.at(0).get<std::string>(), count.at(1).get<int>(), count.at(2).get<int>()});
  return result;
}

}  // namespace plumb::test
