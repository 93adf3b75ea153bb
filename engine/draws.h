/* Random words that depend on nothing but a key and their place.

   The words of a stream come in blocks of BLOCK_WORDS. A block has WIDE generators xoshiro128+ (Blackman and Vigna,
   "Scrambled linear pseudorandom number generators", 2021) side by side, so that they step together; the i-th word of a
   block is the (i / WIDE)-th of generator i % WIDE. Generator g of block b begins with what SplitMix64 makes of the two
   halves of the key at place b * WIDE + g. */
#pragma once
#include "kernels.h"

#define WIDE 256
#define BLOCK_WORDS 65536
#define STEPS 4 /* at once, where so many words are asked for: the state is then loaded and stored once */

typedef struct {
    uint64_t key[2];
    int64_t next; /* place of the next word */
    uint32_t state[4][WIDE];
    uint32_t row[WIDE]; /* the words around the next one, where it is not the first of them */
} stream;

static inline uint64_t mixed(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static inline void seed_block(stream *s, int64_t block)
{
    for (int g = 0; g < WIDE; g++) {
        uint64_t place = ((uint64_t)block * WIDE + (uint64_t)g + 1) * 0x9e3779b97f4a7c15ULL;
        uint64_t a = mixed(s->key[0] + place), b = mixed(s->key[1] + place);
        s->state[0][g] = (uint32_t)a;
        s->state[1][g] = (uint32_t)(a >> 32);
        s->state[2][g] = (uint32_t)b;
        s->state[3][g] = (uint32_t)(b >> 32);
    }
}

/* The next words of all generators, `steps` of each. */
static inline __attribute__((always_inline)) void step_all(stream *s, int steps, uint32_t *restrict out)
{
    uint32_t *restrict a = s->state[0], *restrict b = s->state[1], *restrict c = s->state[2], *restrict d = s->state[3];
    for (int g = 0; g < WIDE; g++) {
        uint32_t w = a[g], x = b[g], y = c[g], z = d[g];
        for (int i = 0; i < steps; i++) {
            uint32_t shifted = x << 9;
            out[i * WIDE + g] = w + z;
            y ^= w;
            z ^= x;
            x ^= y;
            w ^= z;
            y ^= shifted;
            z = z << 11 | z >> 21;
        }
        a[g] = w;
        b[g] = x;
        c[g] = y;
        d[g] = z;
    }
}

static inline void begin(stream *s, const uint64_t key[2], int64_t start)
{
    s->key[0] = key[0];
    s->key[1] = key[1];
    s->next = start;
    int64_t inside = start % BLOCK_WORDS;
    if (!inside) return;
    seed_block(s, start / BLOCK_WORDS);
    for (int64_t i = 0; i < inside; i += WIDE) step_all(s, 1, s->row);
}

/* The next n words. */
static inline void draw(stream *s, int n, uint32_t *out)
{
    for (int i = 0; i < n;) {
        int used = (int)(s->next % WIDE), m = WIDE - used < n - i ? WIDE - used : n - i;
        if (!used) {
            int64_t inside = s->next % BLOCK_WORDS;
            if (!inside) seed_block(s, s->next / BLOCK_WORDS);
            if (n - i >= STEPS * WIDE && BLOCK_WORDS - inside >= STEPS * WIDE) {
                step_all(s, STEPS, out + i);
                s->next += STEPS * WIDE;
                i += STEPS * WIDE;
                continue;
            }
            step_all(s, 1, m == WIDE ? out + i : s->row);
        }
        if (m < WIDE) memcpy(out + i, s->row + used, sizeof(uint32_t) * (size_t)m);
        s->next += m;
        i += m;
    }
}
