#include "io/file/hdf5_file.hpp"

#include <gtest/gtest.h>
#include <hdf5.h>
#include <signal.h>
#include <sys/resource.h>

#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <thread>
#include <vector>

#include "lib/base/check.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

std::vector<int32_t> counting(int32_t size, int32_t from = 0) {
  std::vector<int32_t> values(size);
  std::iota(values.begin(), values.end(), from);
  return values;
}

void write_counting(const std::string& path, int32_t size, int64_t chunk_elements = 64) {
  Hdf5File file = Hdf5File::create(path);
  Hdf5Dataset dataset = file.create_dataset<int32_t>("x", {chunk_elements, -1});
  const std::vector<int32_t> values = counting(size);
  dataset.append(std::span(values));
  dataset.close();
  file.close();
}

/// A file that `make` fills with calls of the C library, as somebody else might.
std::string foreign_file(const TemporaryDirectory& directory, const std::function<void(hid_t file)>& make) {
  static int number = 0;
  std::string path = directory / ("foreign" + std::to_string(number++) + ".h5");
  const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110);
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_EXCL, H5P_DEFAULT, access);
  make(file);
  H5Fclose(file);
  H5Pclose(access);
  return path;
}

/// A dataset "x" of this type and size under these settings, without data.
void create_foreign(hid_t file, hid_t type, hsize_t size, const std::function<void(hid_t settings)>& set) {
  const hid_t space = H5Screate_simple(1, &size, nullptr), settings = H5Pcreate(H5P_DATASET_CREATE);
  set(settings);
  H5Dclose(H5Dcreate2(file, "x", type, space, H5P_DEFAULT, settings, H5P_DEFAULT));
  H5Pclose(settings);
  H5Sclose(space);
}

void set_checksummed_chunks(hid_t settings) {
  const hsize_t chunk = 16;
  H5Pset_chunk(settings, 1, &chunk);
  H5Pset_fletcher32(settings);
}

void expect_refused(const std::string& path, const std::string& part) {
  const std::string message = message_of<DataError>([&] {
    const Hdf5File file = Hdf5File::open_for_reading(path);
    file.open_dataset<int32_t>("x");
  });
  EXPECT_NE(message.find(path), std::string::npos) << message;
  EXPECT_NE(message.find(part), std::string::npos) << message << "\nlacks " << part;
}

TEST(Hdf5File, AppendedPiecesReadBackFromAnyPlace) {
  const TemporaryDirectory directory;
  {
    Hdf5File file = Hdf5File::create(directory / "a.h5");
    Hdf5Dataset dataset = file.create_dataset<int32_t>("x", {64, -1});
    for (int32_t begin = 0, size = 0; begin < 1000; begin += size, size = size % 97 + 1) {
      size = std::min(size, 1000 - begin);
      const std::vector<int32_t> values = counting(size, begin);
      dataset.append(std::span(values));
    }
    EXPECT_EQ(dataset.size(), 1000);
    dataset.close();
    file.close();
  }
  const Hdf5File file = Hdf5File::open_for_reading(directory / "a.h5");
  const Hdf5Dataset dataset = file.open_dataset<int32_t>("x");
  EXPECT_EQ(dataset.size(), 1000);
  for (const auto& [begin, size] : {std::pair(0, 1000), std::pair(63, 2), std::pair(999, 1), std::pair(1000, 0)}) {
    std::vector<int32_t> values(size);
    dataset.read(begin, std::span(values));
    EXPECT_EQ(values, counting(size, begin));
  }
}

TEST(Hdf5File, ReadingPastTheEndIsADataError) {
  const TemporaryDirectory directory;
  write_counting(directory / "a.h5", 10);
  const Hdf5File file = Hdf5File::open_for_reading(directory / "a.h5");
  const Hdf5Dataset dataset = file.open_dataset<int32_t>("x");
  std::vector<int32_t> values(4);
  for (const int64_t begin : {int64_t{7}, int64_t{-1}, INT64_MAX, INT64_MIN}) {
    EXPECT_THROW(dataset.read(begin, std::span(values)), DataError) << begin;
  }
}

TEST(Hdf5File, AttributesReadBackAndAreTyped) {
  const TemporaryDirectory directory;
  {
    Hdf5File file = Hdf5File::create(directory / "a.h5");
    file.set_attribute("version", int64_t{7});
    file.set_attribute("kind", "sft");
    file.close();
  }
  const Hdf5File file = Hdf5File::open_for_reading(directory / "a.h5");
  EXPECT_EQ(file.integer_attribute("version"), 7);
  EXPECT_EQ(file.text_attribute("kind"), "sft");
  EXPECT_THROW(file.integer_attribute("kind"), DataError);
  EXPECT_THROW(file.text_attribute("version"), DataError);
  EXPECT_NE(message_of<DataError>([&] { file.text_attribute("absent"); }).find("a.h5: cannot read absent"),
            std::string::npos);
}

TEST(Hdf5File, EqualContentsGiveEqualBytes) {
  const TemporaryDirectory directory;
  write_counting(directory / "a.h5", 300);
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // times in HDF5 files count seconds
  write_counting(directory / "b.h5", 300);
  EXPECT_EQ(directory.read("a.h5"), directory.read("b.h5"));
}

TEST(Hdf5File, PathsThatCannotBeOpenedAreInputOutputErrors) {
  const TemporaryDirectory directory;
  directory.write("present", "x");
  EXPECT_THROW(Hdf5File::open_for_reading(directory / "missing.h5"), InputOutputError);
  EXPECT_THROW(Hdf5File::open_for_reading(directory.path()), InputOutputError);
  EXPECT_THROW(Hdf5File::create(directory / "present"), InputOutputError);
  EXPECT_THROW(Hdf5File::create(directory / "no/such/directory.h5"), InputOutputError);
  EXPECT_EQ(directory.read("present"), "x");
}

TEST(Hdf5File, FilesThatAreNotHdf5AreDataErrors) {
  const TemporaryDirectory directory;
  expect_refused(directory.write("empty.h5", ""), "expected an HDF5 file");
  expect_refused(directory.write("text.h5", std::string(5000, 'x')), "expected an HDF5 file");
  const hid_t old_format = H5Fcreate((directory / "old.h5").c_str(), H5F_ACC_EXCL, H5P_DEFAULT, H5P_DEFAULT);
  H5Fclose(old_format);
  expect_refused(directory / "old.h5", "expected an HDF5 file with superblock 3");
}

TEST(Hdf5File, DatasetsOfAnotherMakeAreRefused) {
  const TemporaryDirectory directory;
  const auto refuse = [&](const std::function<void(hid_t)>& make, const std::string& part) {
    expect_refused(foreign_file(directory, make), part);
  };
  refuse([](hid_t) {}, "cannot read x");
  refuse([](hid_t file) { create_foreign(file, H5T_STD_I64LE, 0, set_checksummed_chunks); }, "integers of 4 bytes");
  refuse([](hid_t file) { create_foreign(file, H5T_STD_I32BE, 0, set_checksummed_chunks); }, "integers of 4 bytes");
  refuse([](hid_t file) { create_foreign(file, H5T_STD_I32LE, 10, [](hid_t) {}); }, "a chunked dataset");
  refuse(
      [](hid_t file) {
        create_foreign(file, H5T_STD_I32LE, 10,
                       [](hid_t settings) { H5Pset_external(settings, "/etc/passwd", 0, H5F_UNLIMITED); });
      },
      "a chunked dataset");
  refuse(
      [](hid_t file) {
        create_foreign(file, H5T_STD_I32LE, 32, [](hid_t settings) {
          const hsize_t chunk = 16;
          H5Pset_chunk(settings, 1, &chunk);
        });
      },
      "one filter");
  refuse(
      [](hid_t file) {
        create_foreign(file, H5T_STD_I32LE, hsize_t{1} << 29, [](hid_t settings) {
          const hsize_t chunk = hsize_t{1} << 29;
          H5Pset_chunk(settings, 1, &chunk);
          H5Pset_fletcher32(settings);
        });
      },
      "chunks of at most 1 MiB");
  refuse([](hid_t file) { H5Lcreate_external("other.h5", "x", file, "x", H5P_DEFAULT, H5P_DEFAULT); }, "got a link");
  refuse([](hid_t file) { H5Lcreate_soft("y", file, "x", H5P_DEFAULT, H5P_DEFAULT); }, "got a link");
  refuse([](hid_t file) { H5Gclose(H5Gcreate2(file, "x", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT)); }, "cannot read x");
}

TEST(Hdf5File, ASizeWithoutBytesIsRefused) {
  const TemporaryDirectory directory;
  expect_refused(
      foreign_file(directory,
                   [](hid_t file) { create_foreign(file, H5T_STD_I32LE, hsize_t{1} << 50, set_checksummed_chunks); }),
      "expected the bytes of 1125899906842624 elements, got 0");
}

TEST(Hdf5File, AFullDiskIsAnInputOutputError) {
  const TemporaryDirectory directory;
  const std::string path = directory / "a.h5";
  // a limit on the size of files fails as a full disk does, when the library writes
  rlimit old_limit = {};
  ::getrlimit(RLIMIT_FSIZE, &old_limit);
  rlimit limit = old_limit;
  limit.rlim_cur = 100'000;
  ::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &limit);
  const std::string message = message_of<InputOutputError>([&] { write_counting(path, 1'000'000, 4096); });
  ::setrlimit(RLIMIT_FSIZE, &old_limit);
  EXPECT_NE(message.find(path), std::string::npos) << message;
  EXPECT_NE(message.find("File too large"), std::string::npos) << message;
  write_counting(directory / "b.h5", 100);  // the library still works
}

TEST(Hdf5File, FloatingPointNumbersKeepTheirBits) {
  const TemporaryDirectory directory;
  const std::vector<double> values = {-1.0 / 3, 1e-310, -0.0, 1e308, std::numeric_limits<double>::infinity()};
  {
    Hdf5File file = Hdf5File::create(directory / "a.h5");
    Hdf5Dataset dataset = file.create_dataset<double>("x", {2, -1});
    dataset.append(std::span(values));
    dataset.close();
    file.close();
  }
  const Hdf5File file = Hdf5File::open_for_reading(directory / "a.h5");
  std::vector<double> read(values.size());
  file.open_dataset<double>("x").read(0, std::span(read));
  EXPECT_EQ(std::memcmp(read.data(), values.data(), sizeof(double) * values.size()), 0);
  const std::string message = message_of<DataError>([&] { file.open_dataset<int64_t>("x"); });
  EXPECT_NE(message.find("integers of 8 bytes"), std::string::npos) << message;
}

TEST(Hdf5File, ThreadsMayReadAtTheSameTime) {
  const TemporaryDirectory directory;
  write_counting(directory / "a.h5", 100'000, 1024);
  std::vector<int> num_wrong(4, 0);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < num_wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      const Hdf5File file = Hdf5File::open_for_reading(directory / "a.h5");
      const Hdf5Dataset dataset = file.open_dataset<int32_t>("x");
      std::vector<int32_t> values(50);
      for (int32_t begin = 0; begin + 50 <= 100'000; begin += 977) {
        dataset.read(begin, std::span(values));
        if (values != counting(50, begin)) ++num_wrong[t];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(num_wrong, std::vector<int>(4, 0));
}

}  // namespace
}  // namespace plumb
