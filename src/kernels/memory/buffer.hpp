#pragma once

/// Memory that both the host and kernels read and write: managed memory of CUDA, or ordinary memory
/// under emulation. Plain C++: tests, references and the calibrator are the same for both.
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace pipecast::kernels {

/// Filled with 0xff: NaN in every floating format used here.
void* allocate_shared_with_device(std::size_t bytes);
void release_shared_with_device(void* memory);

/// Waits for all kernels launched by this thread. @throws DeviceError if one failed
void synchronise();

/// Orders what a GPU leaves open, where kernels are emulated; nothing on a GPU.
void choose_order(std::uint64_t seed);

/// Whether kernels run in emulation here.
bool emulated();

template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t size)
      : data_(static_cast<T*>(allocate_shared_with_device(size * sizeof(T)))), size_(size) {}
  explicit Buffer(const std::vector<T>& values) : Buffer(values.size()) {
    for (std::size_t i = 0; i < size_; ++i) data_[i] = values[i];
  }
  ~Buffer() { release_shared_with_device(data_); }
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* data() { return data_; }
  const T* data() const { return data_; }
  std::size_t size() const { return size_; }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace pipecast::kernels
