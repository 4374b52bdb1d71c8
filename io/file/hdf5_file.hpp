// HDF5 files of growing arrays of one dimension, each chunk with a checksum: the part of HDF5 that token shards need.
// The only file that calls the HDF5 C API. Calls may come from any thread; they take turns. Source: the HDF5 1.10
// reference manual.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace plumb {

/// One identifier of the HDF5 library, closed with its owner.
class Hdf5Handle {
 public:
  using Close = int (*)(int64_t);
  Hdf5Handle(int64_t id, Close closes) : id_(id), close_(closes) {}
  Hdf5Handle(Hdf5Handle&& other) noexcept;
  Hdf5Handle& operator=(Hdf5Handle&& other) noexcept;
  Hdf5Handle(const Hdf5Handle&) = delete;
  Hdf5Handle& operator=(const Hdf5Handle&) = delete;
  ~Hdf5Handle();

  int64_t id() const { return id_; }
  /// Closes now; false where the library says that it failed.
  bool close();

 private:
  int64_t id_ = -1;
  Close close_;
};

enum class Hdf5Type { kU8, kI32, kI64, kF64 };

template <class T>
constexpr Hdf5Type hdf5_type_of() {
  if (std::is_same_v<T, double>) return Hdf5Type::kF64;
  static_assert(std::is_same_v<T, uint8_t> || std::is_same_v<T, int32_t> || std::is_same_v<T, int64_t> ||
                std::is_same_v<T, double>);
  return sizeof(T) == 1 ? Hdf5Type::kU8 : sizeof(T) == 4 ? Hdf5Type::kI32 : Hdf5Type::kI64;
}

/// A growing array of one dimension.
class Hdf5Dataset {
 public:
  int64_t size() const { return size_; }
  const std::string& name() const { return name_; }

  /// Appends elements. Throws InputOutputError.
  template <class T>
  void append(std::span<const T> values) {
    append_raw(values.data(), static_cast<int64_t>(values.size()), hdf5_type_of<T>());
  }
  /// Fills `values` with elements from `begin` on. Throws DataError past the end or where a checksum does not hold.
  template <class T>
  void read(int64_t begin, std::span<T> values) const {
    read_raw(begin, values.data(), static_cast<int64_t>(values.size()), hdf5_type_of<T>());
  }
  /// Unlike the destructor, throws errors that appear only now. Throws InputOutputError.
  void close();

 private:
  friend class Hdf5File;
  Hdf5Dataset(Hdf5Handle handle, std::string path, std::string name, Hdf5Type type, int64_t size);
  void append_raw(const void* values, int64_t num_values, Hdf5Type type);
  void read_raw(int64_t begin, void* values, int64_t num_values, Hdf5Type type) const;

  Hdf5Handle handle_;
  std::string path_;
  std::string name_;
  Hdf5Type type_;
  int64_t size_ = 0;
};

/// The settings of a new dataset.
struct Hdf5Layout {
  int64_t chunk_elements = 0;
  int64_t fill_value = 0;  // what elements hold that were never written
};

class Hdf5File {
 public:
  /// Throws InputOutputError, also if the path exists.
  static Hdf5File create(const std::string& path);
  /// Throws InputOutputError where the path is no readable file, DataError where it is no intact HDF5 file.
  static Hdf5File open_for_reading(const std::string& path);

  const std::string& path() const { return path_; }

  template <class T>
  Hdf5Dataset create_dataset(const std::string& name, const Hdf5Layout& layout) {
    return create_raw(name, hdf5_type_of<T>(), layout);
  }
  /// Throws DataError unless it is a dataset such as create_dataset() makes, all of whose chunks are in this file.
  template <class T>
  Hdf5Dataset open_dataset(const std::string& name) const {
    return open_raw(name, hdf5_type_of<T>());
  }

  void set_attribute(const std::string& name, int64_t value);
  void set_attribute(const std::string& name, std::string_view value);
  /// These throw DataError where the attribute is missing or of another type.
  int64_t integer_attribute(const std::string& name) const;
  std::string text_attribute(const std::string& name) const;

  /// Writes what is buffered; datasets must be closed before. Throws InputOutputError.
  void close();

 private:
  Hdf5File(Hdf5Handle handle, std::string path, int64_t file_bytes)
      : handle_(std::move(handle)), path_(std::move(path)), file_bytes_(file_bytes) {}
  Hdf5Dataset create_raw(const std::string& name, Hdf5Type type, const Hdf5Layout& layout);
  Hdf5Dataset open_raw(const std::string& name, Hdf5Type type) const;

  Hdf5Handle handle_;
  std::string path_;
  int64_t file_bytes_ = 0;
};

}  // namespace plumb
