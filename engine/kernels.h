/* What all kernels share: blocks of SUB entries that stay in the first-level cache, read as float32; sums of products in
   float64 over 16 lanes. Every function does what its twin in Python does with torch, to the last bit: float32
   arithmetic, products and sums rounded apart (compile with -ffp-contract=off). */
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#define SUB 1024
#define LANES 16
#define MOST 64 /* models at once, the base among them */

typedef float f4 __attribute__((vector_size(16)));
typedef double d4 __attribute__((vector_size(32)));

enum { F32, BF16 };
enum { ALL, LARGEST, DRAWN };

typedef struct {
    const void *data;
    int32_t dtype;
    int32_t pick;
    float threshold;     /* LARGEST: magnitude of the smallest that stays */
    float scale;
    int64_t ties_end;    /* LARGEST: entries of that magnitude stay before this place */
    uint64_t state[2];   /* DRAWN: of the generator, low half first, at the word of the first entry */
    uint64_t step[2];
    uint32_t half;       /* DRAWN: 1 when the first entry takes the upper half of its word */
    uint32_t stays_below;
    const float *scales; /* of columns or rows, or NULL */
} term;

static inline uint32_t bits_of(float x)
{
    uint32_t w;
    memcpy(&w, &x, sizeof w);
    return w;
}

static inline float float_of(uint32_t w)
{
    float x;
    memcpy(&x, &w, sizeof x);
    return x;
}

/* Numbers of SUB entries at most, in float32; 1 when one of them is not finite. */
static inline int load(const void *data, int dtype, int64_t at, int n, float *out)
{
    uint32_t *bits = (uint32_t *)out;
    uint32_t bad = 0;
    if (dtype == BF16) {
        const uint16_t *x = (const uint16_t *)data + at;
        for (int i = 0; i < n; i++) {
            uint32_t w = (uint32_t)x[i] << 16;
            bits[i] = w;
            bad |= (w & 0x7f800000u) == 0x7f800000u;
        }
    } else {
        const uint32_t *x = (const uint32_t *)data + at;
        for (int i = 0; i < n; i++) {
            uint32_t w = x[i];
            bits[i] = w;
            bad |= (w & 0x7f800000u) == 0x7f800000u;
        }
    }
    return bad != 0;
}

static inline void subtract(float *x, const float *base, int n)
{
    for (int i = 0; i < n; i++) x[i] -= base[i];
}

static inline __attribute__((always_inline)) d4 wide(const float *x)
{
    f4 v;
    memcpy(&v, x, sizeof v);
    return __builtin_convertvector(v, d4);
}

typedef struct {
    d4 part[LANES / 4];
} lanes;

static inline double folded(const lanes *sums)
{
    double each[LANES];
    memcpy(each, sums, sizeof each);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) each[i] += each[i + half];
    return each[0];
}

/* Σ a b, over 16 lanes, of n entries; n is a multiple of LANES, filled up with zeros. */
static inline void add_products(const float *a, const float *b, int n, lanes *sums)
{
    lanes s = *sums;
    for (int i = 0; i < n; i += LANES)
        for (int j = 0; j < LANES / 4; j++) s.part[j] += wide(a + i + 4 * j) * wide(b + i + 4 * j);
    *sums = s;
}

/* The same of a and a. */
static inline void add_squares(const float *a, int n, lanes *sums)
{
    lanes s = *sums;
    for (int i = 0; i < n; i += LANES)
        for (int j = 0; j < LANES / 4; j++) {
            d4 v = wide(a + i + 4 * j);
            s.part[j] += v * v;
        }
    *sums = s;
}

static inline int filled(float *x, int n)
{
    for (; n % LANES; n++) x[n] = 0.0f;
    return n;
}
