#include "apps/batch/sbatch.hpp"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "lib/base/check.hpp"

extern char** environ;

namespace plumb {

std::string run_sbatch(const std::vector<std::string>& words) {
  std::vector<std::string> all = {"sbatch"};
  all.insert(all.end(), words.begin(), words.end());
  std::vector<char*> arguments;
  for (std::string& word : all) arguments.push_back(word.data());
  arguments.push_back(nullptr);

  std::array<int, 2> ends = {};
  if (::pipe(ends.data()) != 0) throw_error<InputOutputError>("sbatch: no pipe: {}", std::strerror(errno));
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  ::posix_spawn_file_actions_addclose(&actions, ends[0]);
  ::posix_spawn_file_actions_addclose(&actions, ends[1]);
  pid_t process = 0;
  const int error = ::posix_spawnp(&process, "sbatch", &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  std::string printed;
  std::array<char, 4096> part = {};
  for (ssize_t n = 0; error == 0 && (n = ::read(ends[0], part.data(), part.size())) > 0;)
    printed.append(part.data(), n);
  ::close(ends[0]);
  if (error != 0)
    throw_error<InputOutputError>("sbatch: cannot be started: {}; submit on a login node of the cluster",
                                  std::strerror(error));
  int status = 0;
  while (::waitpid(process, &status, 0) < 0 && errno == EINTR) continue;
  const std::string id = printed.substr(0, printed.find_first_of(";\n"));
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || id.empty())
    throw_error<InputOutputError>("sbatch {}: refused with exit code {}", fmt::join(words, " "),
                                  WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  return id;
}

}  // namespace plumb
