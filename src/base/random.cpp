#include "base/random.hpp"

#include <cmath>

namespace pipecast {

namespace {

std::uint64_t splitmix64(std::uint64_t& x) {
  x += 0x9e3779b97f4a7c15;
  std::uint64_t z = x;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

std::uint64_t fnv1a(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

}  // namespace

Random::Random(std::uint64_t seed, std::string_view purpose, std::uint64_t index) {
  std::uint64_t x = seed;
  x = splitmix64(x) ^ fnv1a(purpose);
  x = splitmix64(x) ^ index;
  for (std::uint64_t& word : state_) word = splitmix64(x);
}

std::uint64_t Random::below(std::uint64_t bound) {
  __extension__ using Wide = unsigned __int128;
  const std::uint64_t rejected = (0 - bound) % bound;  // 2^64 mod bound
  while (true) {
    const Wide product = static_cast<Wide>(bits()) * bound;
    if (static_cast<std::uint64_t>(product) >= rejected)
      return static_cast<std::uint64_t>(product >> 64);
  }
}

double Random::normal() {
  while (true) {
    const double x = 2 * uniform() - 1;
    const double y = 2 * uniform() - 1;
    const double radius = x * x + y * y;
    if (radius > 0 && radius < 1) return x * std::sqrt(-2 * std::log(radius) / radius);
  }
}

}  // namespace pipecast
