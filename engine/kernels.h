/* What all kernels share: blocks of SUB entries that stay in the first-level cache, read as float32; sums of products in
   float64 over 16 lanes. Every function does what its twin in Python does with torch, to the last bit: float32
   arithmetic, products and sums rounded apart (compile with -ffp-contract=off). */
#pragma once
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __AVX__
#include <immintrin.h>
#endif

#define SUB 1024
#define LANES 16
#define TOO_MANY -2
#define UNREADABLE -3
#define MOST 64 /* models at once, the base among them */

typedef float f4 __attribute__((vector_size(16)));
typedef double d4 __attribute__((vector_size(32)));

typedef float f8 __attribute__((vector_size(32)));
typedef int32_t i8 __attribute__((vector_size(32)));
typedef uint32_t u8 __attribute__((vector_size(32)));
typedef uint16_t h8 __attribute__((vector_size(16)));

enum { F32, BF16 };
enum { ALL, LARGEST, DRAWN, MIDDLE };

/* Entries in memory, or in a file from a byte on. */
typedef struct {
    const void *data; /* NULL: in a file */
    int64_t offset;
    int32_t file, dtype;
} source;

typedef struct {
    source from;
    int32_t pick;
    float threshold;     /* LARGEST, MIDDLE: magnitude of the smallest that stays */
    float scale;
    int64_t ties_end;    /* LARGEST, MIDDLE: entries of that magnitude stay before this place */
    uint64_t key[2];     /* DRAWN: of the stream, see draws.h */
    int64_t start;       /* DRAWN: place of the first entry in it */
    int32_t stays_below; /* DRAWN: entries stay whose upper 24 bits are a smaller number */
    float beyond;        /* MIDDLE: the same of the very largest, which do not stay */
    int64_t beyond_ties_end;
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

static inline const void *behind(const void *data, int dtype, int64_t n)
{
    return (const char *)data + n * (dtype == BF16 ? 2 : 4);
}

/* SUB entries at most, in float32; 1 when one of them is not finite. */
static inline int load(const void *data, int dtype, int n, float *out)
{
    uint32_t *bits = (uint32_t *)out;
    int32_t most = 0;
    if (dtype == BF16) {
        const uint16_t *x = data;
        for (int i = 0; i < n; i++) {
            uint32_t w = (uint32_t)x[i] << 16;
            int32_t magnitude = (int32_t)(w & 0x7fffffffu);
            bits[i] = w;
            most = magnitude > most ? magnitude : most;
        }
    } else {
        const uint32_t *x = data;
        for (int i = 0; i < n; i++) {
            uint32_t w = x[i];
            int32_t magnitude = (int32_t)(w & 0x7fffffffu);
            bits[i] = w;
            most = magnitude > most ? magnitude : most;
        }
    }
    return most >= 0x7f800000;
}

static inline float widened(uint16_t half)
{
    return float_of((uint32_t)half << 16);
}

/* The same, less a base's where there is one. */
static inline int load_less(const void *data, int dtype, int n, const float *restrict base, float *restrict out)
{
    if (!base || dtype != BF16) {
        int bad = load(data, dtype, n, out);
        if (base)
            for (int i = 0; i < n; i++) out[i] -= base[i];
        return bad;
    }
    const uint16_t *x = data;
    int32_t most = 0;
    for (int i = 0; i < n; i++) {
        int32_t w = (int32_t)((uint32_t)x[i] << 16), magnitude = w & 0x7fffffff;
        most = magnitude > most ? magnitude : most;
        out[i] = float_of((uint32_t)w) - base[i];
    }
    return most >= 0x7f800000;
}

static inline __attribute__((always_inline)) d4 wide(const float *x)
{
#ifdef __AVX__
    return _mm256_cvtps_pd(_mm_loadu_ps(x));
#else
    f4 v;
    memcpy(&v, x, sizeof v);
    return __builtin_convertvector(v, d4);
#endif
}

/* a b + c of widened numbers, whose products are exact: fused or not, the same. */
static inline d4 added(d4 a, d4 b, d4 c)
{
#ifdef __FMA__
    return _mm256_fmadd_pd(a, b, c);
#else
    return a * b + c;
#endif
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
        for (int j = 0; j < LANES / 4; j++) s.part[j] = added(wide(a + i + 4 * j), wide(b + i + 4 * j), s.part[j]);
    *sums = s;
}

/* The same of a and a. */
static inline void add_squares(const float *a, int n, lanes *sums)
{
    lanes s = *sums;
    for (int i = 0; i < n; i += LANES)
        for (int j = 0; j < LANES / 4; j++) {
            d4 v = wide(a + i + 4 * j);
            s.part[j] = added(v, v, s.part[j]);
        }
    *sums = s;
}

static inline int filled(float *x, int n)
{
    for (; n % LANES; n++) x[n] = 0.0f;
    return n;
}

static inline f8 eight(const float *x)
{
    f8 v;
    memcpy(&v, x, sizeof v);
    return v;
}

static inline f8 all(float x)
{
    return (f8){x, x, x, x, x, x, x, x};
}

static inline f8 where(i8 mask, f8 x)
{
    return (f8)(mask & (i8)x);
}

static inline f8 sign_of(f8 x)
{
    return where(x > 0, all(1.0f)) - where(x < 0, all(1.0f));
}

static inline int any(i8 mask)
{
#ifdef __AVX2__
    return _mm256_movemask_epi8((__m256i)mask) != 0;
#else
    int32_t found = 0;
    for (int i = 0; i < 8; i++) found |= mask[i];
    return found != 0;
#endif
}

/* Entries whose magnitude is above a threshold, or equal to it before `ties_end`; 0 for the others. */
static inline void largest(float threshold, int64_t ties_end, int64_t at, int n, const float *x, float *out)
{
    int64_t left = ties_end - at;
    int split = left <= 0 ? 0 : left >= n ? n : (int)left;
    float low = threshold > 0 ? nextafterf(threshold, 0.0f) : 0.0f;
    for (int i = 0; i < split; i++) out[i] = fabsf(x[i]) <= low ? 0.0f : x[i];
    for (int i = split; i < n; i++) out[i] = fabsf(x[i]) <= threshold ? 0.0f : x[i];
}
