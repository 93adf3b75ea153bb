/* Random numbers by themselves. */
#include "draws.h"

/* Uniform numbers in [0, 1) of 24 bits, from a place of a stream on. */
void uniform(const uint64_t *key, int64_t start, int64_t n, float *out)
{
    uint32_t words[SUB];
    stream s;
    begin(&s, key, start);
    for (int64_t at = 0; at < n; at += SUB) {
        int m = n - at < SUB ? (int)(n - at) : SUB;
        draw(&s, m, words);
        for (int i = 0; i < m; i++) out[at + i] = (float)(int32_t)(words[i] >> 8) * 0x1p-24f;
    }
}
