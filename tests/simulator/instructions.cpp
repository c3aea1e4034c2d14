// Warp-wide instructions: shuffles, votes, matrix loads and stores, tensor-core products; and the 16-bit types.
#include "fiber.h"
#include "scheduler.h"

namespace svconv::simulate {
namespace {

constexpr unsigned kWholeWarp = ~0u;

struct Shuffle {
  uint64_t value;
  int source;
  uint64_t got;
  bool valid;
};

struct Vote {
  bool predicate;
  unsigned got;
};

// registers: of the lane; row: the address that the lane gives
struct Matrices {
  uint32_t* registers;
  int count;
  bool transposed;
  unsigned char* row;
};

struct Product {
  float* d;
  const uint32_t* a;
  const uint32_t* b;
  float (*decode)(uint16_t);
};

template <class T>
T& at(void* record) { return *static_cast<T*>(record); }

void perform_shuffle(void* const* records, unsigned mask) {
  for (int lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    Shuffle& s = at<Shuffle>(records[lane]);
    s.valid = mask >> s.source & 1;
    if (s.valid) s.got = at<Shuffle>(records[s.source]).value;
  }
}

void perform_ballot(void* const* records, unsigned mask) {
  unsigned got = 0;
  for (int lane = 0; lane < 32; ++lane) {
    if (mask >> lane & 1) got |= unsigned(at<Vote>(records[lane]).predicate) << lane;
  }
  for (int lane = 0; lane < 32; ++lane) {
    if (mask >> lane & 1) at<Vote>(records[lane]).got = got;
  }
}

// The element of matrix `matrix` that lane `lane` holds in half `half` of its register.
unsigned char* element(void* const* records, int matrix, int lane, int half, bool transposed) {
  const int major = lane / 4, minor = 2 * (lane % 4) + half;
  const int row = transposed ? minor : major, column = transposed ? major : minor;
  return at<Matrices>(records[8 * matrix + row]).row + 2 * column;
}

void perform_load(void* const* records, unsigned) {
  const Matrices first = at<Matrices>(records[0]);
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < first.count; ++i) {
      unsigned char bytes[4];
      for (int half = 0; half < 2; ++half) {
        const unsigned char* source = element(records, i, lane, half, first.transposed);
        bytes[2 * half] = source[0];
        bytes[2 * half + 1] = source[1];
      }
      std::memcpy(&at<Matrices>(records[lane]).registers[i], bytes, 4);
    }
  }
}

void perform_store(void* const* records, unsigned) {
  const Matrices first = at<Matrices>(records[0]);
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < first.count; ++i) {
      unsigned char bytes[4];
      std::memcpy(bytes, &at<Matrices>(records[lane]).registers[i], 4);
      for (int half = 0; half < 2; ++half) {
        unsigned char* target = element(records, i, lane, half, first.transposed);
        target[0] = bytes[2 * half];
        target[1] = bytes[2 * half + 1];
      }
    }
  }
}

// d += a * b for fragments unpacked to matrices: each lane holds rows g and g + 8, columns 2t and 2t + 1 of d.
template <int K>
void accumulate(void* const* records, const float (&a)[16][K], const float (&b)[K][8]) {
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
      float sum = at<Product>(records[lane]).d[i];
      for (int k = 0; k < K; ++k) sum += a[row][k] * b[k][column];
      at<Product>(records[lane]).d[i] = sum;
    }
  }
}

void perform_16x8x16(void* const* records, unsigned) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const Product& p = at<Product>(records[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < 4; ++i) {
        a[g + 8 * (i % 2)][2 * t + 8 * (i / 2) + half] = p.decode(uint16_t(p.a[i] >> 16 * half));
      }
      for (int i = 0; i < 2; ++i) b[2 * t + 8 * i + half][g] = p.decode(uint16_t(p.b[i] >> 16 * half));
    }
  }
  accumulate(records, a, b);
}

void perform_16x8x8(void* const* records, unsigned) {
  float a[16][8], b[8][8];
  for (int lane = 0; lane < 32; ++lane) {
    const Product& p = at<Product>(records[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < 2; ++i) a[g + 8 * i][2 * t + half] = p.decode(uint16_t(p.a[i] >> 16 * half));
      b[2 * t + half][g] = p.decode(uint16_t(p.b[0] >> 16 * half));
    }
  }
  accumulate(records, a, b);
}

// The hardware reads the upper 19 bits of a register.
float decode_tf32(uint32_t bits) {
  bits &= 0xffffe000u;
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

void perform_16x8x8_tf32(void* const* records, unsigned) {
  float a[16][8], b[8][8];
  for (int lane = 0; lane < 32; ++lane) {
    const Product& p = at<Product>(records[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) a[g + 8 * (i % 2)][t + 4 * (i / 2)] = decode_tf32(p.a[i]);
    for (int i = 0; i < 2; ++i) b[t + 4 * i][g] = decode_tf32(p.b[i]);
  }
  accumulate(records, a, b);
}

}  // namespace

uint64_t shuffle(unsigned mask, uint64_t value, int source, Site site) {
  Shuffle record{value, source, value, true};
  exchange(mask, site, &record, perform_shuffle);
  if (!record.valid) fail(site, "shuffle from lane %d, which the mask %08x leaves out", source, mask);
  return record.got;
}

unsigned ballot(unsigned mask, bool predicate, Site site) {
  Vote record{predicate, 0};
  exchange(mask, site, &record, perform_ballot);
  return record.got;
}

void load_matrices(uint32_t* r, int count, bool transposed, const void* row, Site site) {
  Matrices record{r, count, transposed, static_cast<unsigned char*>(const_cast<void*>(row))};
  if (lane() < 8 * count) {
    check_shared(row, 16, 16, site);
    __tsan_read_range(record.row, 16);
  }
  exchange(kWholeWarp, site, &record, perform_load);
}

void store_matrices(const uint32_t* r, int count, bool transposed, void* row, Site site) {
  Matrices record{const_cast<uint32_t*>(r), count, transposed, static_cast<unsigned char*>(row)};
  if (lane() < 8 * count) {
    check_shared(row, 16, 16, site);
    __tsan_write_range(row, 16);
  }
  exchange(kWholeWarp, site, &record, perform_store);
}

void multiply_16x8x16(float* d, const uint32_t* a, const uint32_t* b, float (*decode)(uint16_t), Site site) {
  Product record{d, a, b, decode};
  exchange(kWholeWarp, site, &record, perform_16x8x16);
}

void multiply_16x8x8(float* d, const uint32_t* a, const uint32_t* b, float (*decode)(uint16_t), Site site) {
  Product record{d, a, b, decode};
  exchange(kWholeWarp, site, &record, perform_16x8x8);
}

void multiply_16x8x8_tf32(float* d, const uint32_t* a, const uint32_t* b, Site site) {
  Product record{d, a, b, nullptr};
  exchange(kWholeWarp, site, &record, perform_16x8x8_tf32);
}

float decode_bfloat16(uint16_t bits) {
  const uint32_t wide = uint32_t(bits) << 16;
  float x;
  std::memcpy(&x, &wide, 4);
  return x;
}

uint16_t encode_bfloat16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if (x != x) return 0x7fff;
  // To nearest, ties to even.
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float decode_half(uint16_t bits) {
  _Float16 x;
  std::memcpy(&x, &bits, 2);
  return float(x);
}

uint16_t encode_half(float x) {
  const _Float16 half = _Float16(x);
  uint16_t bits;
  std::memcpy(&bits, &half, 2);
  return bits;
}

}  // namespace svconv::simulate
