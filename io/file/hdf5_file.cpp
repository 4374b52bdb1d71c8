#include "io/file/hdf5_file.hpp"

#include <hdf5.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <utility>

#include "io/file/file.hpp"
#include "io/file/hdf5_version.hpp"
#include "lib/base/activity.hpp"
#include "lib/base/check.hpp"

namespace plumb {
namespace {

static_assert(std::is_same_v<hid_t, int64_t>, "identifiers are kept as int64_t, as HDF5 1.10 and later have them");

constexpr int64_t kMaxChunkBytes = 1 << 20;
constexpr size_t kMaxTextBytes = 256;

/// Holds the turn of this thread. A build of HDF5 need not be thread-safe; one that is prints errors per thread.
class Turn {
 public:
  Turn() : lock_(mutex()) {
    static const bool is_set_up = [] {
      // no cleanup at exit: after a failed write it would write again; and no filters from outside the library
      return H5dont_atexit() >= 0 && H5open() >= 0 && H5PLset_loading_state(0) >= 0;
    }();
    thread_local const bool is_quiet = H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
    if (!is_set_up || !is_quiet) throw std::runtime_error("HDF5: cannot set up the library");
  }

 private:
  static std::recursive_mutex& mutex() {
    static std::recursive_mutex instance;
    return instance;
  }
  std::lock_guard<std::recursive_mutex> lock_;
};

/// The library's message about the last failed call, of the innermost function.
std::string last_error() {
  std::string text;
  const auto take_first = [](unsigned, const H5E_error2_t* error, void* to) -> herr_t {
    auto& found = *static_cast<std::string*>(to);
    if (found.empty() && error->desc != nullptr) found = error->desc;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_first, &text);
  H5Eclear2(H5E_DEFAULT);
  // the drivers put the system's message between times and addresses
  constexpr std::string_view kMark = "error message = '";
  if (const size_t begin = text.find(kMark); begin != std::string::npos) {
    text.erase(0, begin + kMark.size());
    text.resize(std::min(text.find('\''), text.size()));
  }
  return text.empty() ? "HDF5 gives no reason" : text;
}

struct TypeInfo {
  hid_t memory;
  hid_t file;
  int64_t size_bytes;
  std::string_view name;
};

TypeInfo info(Hdf5Type type) {
  switch (type) {
    case Hdf5Type::kU8:
      return {H5T_NATIVE_UINT8, H5T_STD_U8LE, 1, "integers"};
    case Hdf5Type::kI32:
      return {H5T_NATIVE_INT32, H5T_STD_I32LE, 4, "integers"};
    case Hdf5Type::kF64:
      return {H5T_NATIVE_DOUBLE, H5T_IEEE_F64LE, 8, "floating-point numbers"};
    default:
      return {H5T_NATIVE_INT64, H5T_STD_I64LE, 8, "integers"};
  }
}

int close_plist(int64_t id) { return H5Pclose(id); }
int close_space(int64_t id) { return H5Sclose(id); }
int close_type(int64_t id) { return H5Tclose(id); }
int close_attribute(int64_t id) { return H5Aclose(id); }
int close_dataset(int64_t id) { return H5Dclose(id); }
int close_file(int64_t id) { return H5Fclose(id); }

/// For a file that is being written: the system failed.
void check_written(bool holds, std::string_view path, std::string_view name) {
  if (!holds) throw_error<InputOutputError>("{}: cannot write {}: {}", path, name, last_error());
}

/// For a file that is being read: its bytes are damaged.
void check_read(bool holds, std::string_view path, std::string_view name) {
  if (!holds) throw_error<DataError>("{}: cannot read {}: {}; is the file damaged?", path, name, last_error());
}

Hdf5Handle new_plist(hid_t kind) {
  Hdf5Handle plist(H5Pcreate(kind), close_plist);
  if (plist.id() < 0) throw_error<std::runtime_error>("HDF5: cannot make a property list: {}", last_error());
  return plist;
}

/// Files are published when they are complete, so no lock is needed, which some network file systems lack.
Hdf5Handle file_access() {
  Hdf5Handle plist = new_plist(H5P_FILE_ACCESS);
#if H5_VERSION_GE(1, 10, 7)
  H5Pset_file_locking(plist.id(), false, true);
#endif
  H5Pset_fclose_degree(plist.id(), H5F_CLOSE_STRONG);
  // since this format all metadata of the library has a checksum
  H5Pset_libver_bounds(plist.id(), H5F_LIBVER_V110, H5F_LIBVER_V110);
  return plist;
}

/// In this format everything that the library keeps beside the data has a checksum, so that it refuses damage. Throws
/// DataError for another format.
void check_superblock(const File& file) {
  constexpr std::array<unsigned char, 9> kExpected = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n', 3};
  std::array<unsigned char, kExpected.size()> start{};
  if (file.size_bytes() >= std::ssize(start)) file.pread_exact(std::as_writable_bytes(std::span(start)), 0);
  if (start != kExpected) {
    throw_error<DataError>(
        "{}: expected an HDF5 file with superblock 3, as plumb writes, got other bytes; is it damaged?", file.path());
  }
}

/// One chunk is kept: rows are read in file order or at random, never back and forth.
Hdf5Handle dataset_access(int64_t chunk_bytes) {
  Hdf5Handle plist = new_plist(H5P_DATASET_ACCESS);
  H5Pset_chunk_cache(plist.id(), 1, chunk_bytes, 1.0);
  return plist;
}

/// The memory and file spaces of elements [begin, begin + num_elements), which must not be none.
struct Selection {
  Hdf5Handle memory;
  Hdf5Handle file;
};

Selection select(hid_t dataset, int64_t begin, int64_t num_elements) {
  const auto start = static_cast<hsize_t>(begin), count = static_cast<hsize_t>(num_elements);
  Selection selection{{H5Screate_simple(1, &count, nullptr), close_space}, {H5Dget_space(dataset), close_space}};
  H5Sselect_hyperslab(selection.file.id(), H5S_SELECT_SET, &start, nullptr, &count, nullptr);
  return selection;
}

/// The elements that a chunk of this dataset has. Throws DataError for what create_raw() does not make: hostile layouts
/// name other files, expand on reading, or run code of plug-ins.
int64_t check_layout(hid_t dataset, int64_t element_bytes, const std::string& path, const std::string& name) {
  const Hdf5Handle settings(H5Dget_create_plist(dataset), close_plist);
  check_read(settings.id() >= 0, path, name);
  const auto require = [&](bool holds, std::string_view expected) {
    if (!holds) throw_error<DataError>("{}: {}: expected {}, got another layout", path, name, expected);
  };
  require(H5Pget_layout(settings.id()) == H5D_CHUNKED, "a chunked dataset");
  hsize_t chunk = 0;
  require(H5Pget_chunk(settings.id(), 1, &chunk) == 1, "chunks of one dimension");
  require(chunk > 0 && chunk <= static_cast<hsize_t>(kMaxChunkBytes / element_bytes), "chunks of at most 1 MiB");
  require(H5Pget_nfilters(settings.id()) == 1, "one filter");
  unsigned flags = 0, filter_config = 0;
  size_t num_values = 0;
  const H5Z_filter_t filter =
      H5Pget_filter2(settings.id(), 0, &flags, &num_values, nullptr, 0, nullptr, &filter_config);
  require(filter == H5Z_FILTER_FLETCHER32 && (flags & H5Z_FLAG_OPTIONAL) == 0, "the fletcher32 checksum");
  return static_cast<int64_t>(chunk);
}

}  // namespace

Hdf5Handle::Hdf5Handle(Hdf5Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}

Hdf5Handle& Hdf5Handle::operator=(Hdf5Handle&& other) noexcept {
  std::swap(id_, other.id_);
  std::swap(close_, other.close_);
  return *this;
}

Hdf5Handle::~Hdf5Handle() {
  if (id_ >= 0) close();
}

bool Hdf5Handle::close() {
  const Turn turn;
  return close_(std::exchange(id_, -1)) >= 0;
}

Hdf5Dataset::Hdf5Dataset(Hdf5Handle handle, std::string path, std::string name, Hdf5Type type, int64_t size)
    : handle_(std::move(handle)), path_(std::move(path)), name_(std::move(name)), type_(type), size_(size) {}

void Hdf5Dataset::append_raw(const void* values, int64_t num_values, Hdf5Type type) {
  const WatchedOperation watched("write of an HDF5 dataset", OperationKind::kFile);
  check(type == type_, "values have the type of their dataset");
  if (num_values == 0) return;
  const Turn turn;
  const auto new_size = static_cast<hsize_t>(size_ + num_values);
  check_written(H5Dset_extent(handle_.id(), &new_size) >= 0, path_, name_);
  const Selection selection = select(handle_.id(), size_, num_values);
  check_written(
      H5Dwrite(handle_.id(), info(type_).memory, selection.memory.id(), selection.file.id(), H5P_DEFAULT, values) >= 0,
      path_, name_);
  size_ += num_values;
}

void Hdf5Dataset::read_raw(int64_t begin, void* values, int64_t num_values, Hdf5Type type) const {
  const WatchedOperation watched("read of an HDF5 dataset", OperationKind::kFile);
  check(type == type_, "values have the type of their dataset");
  if (begin < 0 || num_values > size_ || begin > size_ - num_values) {
    throw_error<DataError>("{}: {}: expected elements [{}, {} more), got an array of {}", path_, name_, begin,
                           num_values, size_);
  }
  if (num_values == 0) return;
  const Turn turn;
  const Selection selection = select(handle_.id(), begin, num_values);
  check_read(
      H5Dread(handle_.id(), info(type_).memory, selection.memory.id(), selection.file.id(), H5P_DEFAULT, values) >= 0,
      path_, fmt::format("{} [{}, {})", name_, begin, begin + num_values));
}

void Hdf5Dataset::close() {
  const Turn turn;
  check_written(handle_.close(), path_, name_);
}

Hdf5File Hdf5File::create(const std::string& path) {
  const Turn turn;
  File::create(path).close();  // its errors are clearer than the library's
  const Hdf5Handle access = file_access();
  const Hdf5Handle settings = new_plist(H5P_FILE_CREATE);
  H5Pset_obj_track_times(settings.id(), false);  // equal contents give equal bytes
  Hdf5Handle handle(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, settings.id(), access.id()), close_file);
  check_written(handle.id() >= 0, path, "the file");
  return {std::move(handle), path, 0};
}

Hdf5File Hdf5File::open_for_reading(const std::string& path) {
  const Turn turn;
  const File file = File::open_for_reading(path);
  check_superblock(file);
  const Hdf5Handle access = file_access();
  Hdf5Handle handle(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.id()), close_file);
  check_read(handle.id() >= 0, path, "it as HDF5");
  return {std::move(handle), path, file.size_bytes()};
}

Hdf5Dataset Hdf5File::create_raw(const std::string& name, Hdf5Type type, const Hdf5Layout& layout) {
  const Turn turn;
  const TypeInfo type_info = info(type);
  const auto chunk = static_cast<hsize_t>(layout.chunk_elements);
  check(layout.chunk_elements > 0 && layout.chunk_elements * type_info.size_bytes <= kMaxChunkBytes,
        "a chunk has at most 1 MiB");
  const Hdf5Handle settings = new_plist(H5P_DATASET_CREATE);
  const bool is_set = H5Pset_chunk(settings.id(), 1, &chunk) >= 0 && H5Pset_fletcher32(settings.id()) >= 0 &&
                      H5Pset_fill_value(settings.id(), H5T_NATIVE_INT64, &layout.fill_value) >= 0 &&
                      H5Pset_obj_track_times(settings.id(), false) >= 0;
  check_written(is_set, path_, name);
  const hsize_t size = 0, max_size = H5S_UNLIMITED;
  const Hdf5Handle space(H5Screate_simple(1, &size, &max_size), close_space);
  const Hdf5Handle access = dataset_access(layout.chunk_elements * type_info.size_bytes);
  Hdf5Handle handle(
      H5Dcreate2(handle_.id(), name.c_str(), type_info.file, space.id(), H5P_DEFAULT, settings.id(), access.id()),
      close_dataset);
  check_written(handle.id() >= 0, path_, name);
  return {std::move(handle), path_, name, type, 0};
}

Hdf5Dataset Hdf5File::open_raw(const std::string& name, Hdf5Type type) const {
  const Turn turn;
  const TypeInfo type_info = info(type);
  H5L_info_t link;
  check_read(H5Lget_info(handle_.id(), name.c_str(), &link, H5P_DEFAULT) >= 0, path_, name);
  if (link.type != H5L_TYPE_HARD) throw_error<DataError>("{}: {}: expected a dataset, got a link", path_, name);

  // opened twice, as the cache of chunks is set before their size is known
  int64_t chunk_elements = 0;
  {
    const Hdf5Handle first(H5Dopen2(handle_.id(), name.c_str(), H5P_DEFAULT), close_dataset);
    check_read(first.id() >= 0, path_, name);
    chunk_elements = check_layout(first.id(), type_info.size_bytes, path_, name);
  }
  const Hdf5Handle access = dataset_access(chunk_elements * type_info.size_bytes);
  Hdf5Handle handle(H5Dopen2(handle_.id(), name.c_str(), access.id()), close_dataset);
  check_read(handle.id() >= 0, path_, name);
  const Hdf5Handle file_type(H5Dget_type(handle.id()), close_type);
  if (H5Tequal(file_type.id(), type_info.file) <= 0) {
    throw_error<DataError>("{}: {}: expected {} of {} bytes, got another type", path_, name, type_info.name,
                           type_info.size_bytes);
  }
  const Hdf5Handle space(H5Dget_space(handle.id()), close_space);
  hsize_t size = 0;
  if (H5Sget_simple_extent_ndims(space.id()) != 1 || H5Sget_simple_extent_dims(space.id(), &size, nullptr) != 1) {
    throw_error<DataError>("{}: {}: expected one dimension, got another number", path_, name);
  }
  // a size that the file has no bytes for would read as fill values, without end
  const hsize_t stored_bytes = H5Dget_storage_size(handle.id());
  H5Eclear2(H5E_DEFAULT);
  if (stored_bytes > static_cast<hsize_t>(file_bytes_) ||
      size > stored_bytes / static_cast<hsize_t>(type_info.size_bytes)) {
    throw_error<DataError>("{}: {}: expected the bytes of {} elements, got {}; is the file complete?", path_, name,
                           size, stored_bytes);
  }
  return {std::move(handle), path_, name, type, static_cast<int64_t>(size)};
}

void Hdf5File::set_attribute(const std::string& name, int64_t value) {
  const Turn turn;
  const Hdf5Handle space(H5Screate(H5S_SCALAR), close_space);
  const Hdf5Handle attribute(
      H5Acreate2(handle_.id(), name.c_str(), H5T_STD_I64LE, space.id(), H5P_DEFAULT, H5P_DEFAULT), close_attribute);
  check_written(attribute.id() >= 0 && H5Awrite(attribute.id(), H5T_NATIVE_INT64, &value) >= 0, path_, name);
}

void Hdf5File::set_attribute(const std::string& name, std::string_view value) {
  const Turn turn;
  check(!value.empty() && value.size() <= kMaxTextBytes, "a text attribute has 1 to 256 bytes");
  const Hdf5Handle space(H5Screate(H5S_SCALAR), close_space);
  const Hdf5Handle type(H5Tcopy(H5T_C_S1), close_type);
  H5Tset_size(type.id(), value.size());
  const Hdf5Handle attribute(H5Acreate2(handle_.id(), name.c_str(), type.id(), space.id(), H5P_DEFAULT, H5P_DEFAULT),
                             close_attribute);
  check_written(attribute.id() >= 0 && H5Awrite(attribute.id(), type.id(), value.data()) >= 0, path_, name);
}

namespace {

/// An attribute of one value; `type` takes the type it has in the file.
Hdf5Handle open_attribute(hid_t file, const std::string& path, const std::string& name, H5T_class_t type_class,
                          Hdf5Handle& type) {
  Hdf5Handle attribute(H5Aopen(file, name.c_str(), H5P_DEFAULT), close_attribute);
  check_read(attribute.id() >= 0, path, name);
  const Hdf5Handle space(H5Aget_space(attribute.id()), close_space);
  type = Hdf5Handle(H5Aget_type(attribute.id()), close_type);
  if (H5Sget_simple_extent_npoints(space.id()) != 1 || H5Tget_class(type.id()) != type_class) {
    throw_error<DataError>("{}: attribute {}: expected one value of another type", path, name);
  }
  return attribute;
}

}  // namespace

int64_t Hdf5File::integer_attribute(const std::string& name) const {
  const Turn turn;
  Hdf5Handle type(-1, close_type);
  const Hdf5Handle attribute = open_attribute(handle_.id(), path_, name, H5T_INTEGER, type);
  int64_t value = 0;
  check_read(H5Aread(attribute.id(), H5T_NATIVE_INT64, &value) >= 0, path_, name);
  return value;
}

std::string Hdf5File::text_attribute(const std::string& name) const {
  const Turn turn;
  Hdf5Handle type(-1, close_type);
  const Hdf5Handle attribute = open_attribute(handle_.id(), path_, name, H5T_STRING, type);
  const size_t num_bytes = H5Tget_size(type.id());
  if (H5Tis_variable_str(type.id()) != 0 || num_bytes > kMaxTextBytes) {
    throw_error<DataError>("{}: attribute {}: expected a text of at most {} bytes", path_, name, kMaxTextBytes);
  }
  std::string value(num_bytes, '\0');
  check_read(H5Aread(attribute.id(), type.id(), value.data()) >= 0, path_, name);
  return value;
}

void Hdf5File::close() {
  const Turn turn;
  check_written(handle_.close(), path_, "the file");
}

std::string hdf5_version() {
  unsigned major = 0, minor = 0, release = 0;
  ::H5get_libversion(&major, &minor, &release);
  return fmt::format("{}.{}.{}", major, minor, release);
}

}  // namespace plumb
