/* Counts of magnitudes by their bits. */
#include "kernels.h"

/* How often each upper half of the magnitudes' bits occurs, or each lower half of those with this upper one. */
int32_t count_magnitudes(const void *data, int32_t dtype, const void *base, int32_t base_dtype, int64_t n,
                         int32_t upper, int64_t *counts)
{
    float x[SUB], from[SUB] = {0};
    const uint32_t *bits = (const uint32_t *)x;
    for (int64_t at = 0; at < n; at += SUB) {
        int m = n - at < SUB ? (int)(n - at) : SUB;
        if (base && load(behind(base, base_dtype, at), base_dtype, m, from)) return 1;
        if (load_less(behind(data, dtype, at), dtype, m, base ? from : NULL, x)) return 0;
        if (upper < 0)
            for (int i = 0; i < m; i++) counts[(bits[i] & 0x7fffffffu) >> 16]++;
        else
            for (int i = 0; i < m; i++)
                if ((bits[i] & 0x7fffffffu) >> 16 == (uint32_t)upper) counts[bits[i] & 0xffffu]++;
    }
    return -1;
}

/* Counts of the magnitudes below `low`, and of each of the `width` keys from it on: counts[0], counts[1 + key - low].
   Keys are the bits of the magnitude; those beyond are not counted. */
int32_t count_near(const void *data, int32_t dtype, const void *base, int32_t base_dtype, int64_t n, uint32_t low,
                   uint32_t width, int64_t *counts)
{
    float x[SUB], from[SUB] = {0};
    uint16_t near[SUB];
    const uint32_t *bits = (const uint32_t *)x;
    for (int64_t at = 0; at < n; at += SUB) {
        int m = n - at < SUB ? (int)(n - at) : SUB;
        if (base && load(behind(base, base_dtype, at), base_dtype, m, from)) return 1;
        if (load_less(behind(data, dtype, at), dtype, m, base ? from : NULL, x)) return 0;
        int32_t below = 0;
        for (int i = 0; i < m; i++) below += (bits[i] & 0x7fffffffu) < low;
        counts[0] += below;
        int found = 0;
        for (int i = 0; i < m; i++) {
            near[found] = (uint16_t)i;
            found += (bits[i] & 0x7fffffffu) - low < width;
        }
        for (int i = 0; i < found; i++) counts[1 + (bits[near[i]] & 0x7fffffffu) - low]++;
    }
    return -1;
}
