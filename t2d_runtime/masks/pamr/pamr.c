/* The inner loops of PAMR (refine.py): how alike neighbouring pixels are, and scores spread along the likeness.

   cc -O3 -ffp-contract=fast -fno-math-errno -fPIC -shared pamr.c -o libpamr.so

   Nothing is allocated. Rows are independent: threads may share a picture by rows, from `first` to before `last`.
   Layouts, all of float32, W16 being the width rounded up to 16:
   - padded row: `border` pixels, W16, `border`. Outside of the picture its outermost pixels repeat, at the left and
     right as stored, above and below by address;
   - padded planes of 1 to 8 classes: (N, H, padded row);
   - a sheet of 9 to 16 classes: the 16 scores of a pixel side by side, (H, padded row, 16), best aligned to 64 bytes;
   - weights of a pixel's neighbours, 8 for each of D dilations, in blocks of 16 pixels: (H, W16 / 16, 8 D, 16). */

#ifndef NAME /* ------------------------------------------------- first what is there once; this file includes itself */
#include <stddef.h>

#if defined(_WIN32)
#define PUBLIC __declspec(dllexport)
#elif defined(__GNUC__)
#define PUBLIC __attribute__((visibility("default")))
#else
#define PUBLIC
#endif
#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#define PREFETCH(address) __builtin_prefetch(address, 0, 2)
#define fabsf __builtin_fabsf
#define sqrtf __builtin_sqrtf
#else
#include <math.h>
#define INLINE static inline
#define PREFETCH(address) (void)(address)
#endif
#define TEXT(x) #x
#define TEXT_OF(x) TEXT(x)
#ifndef PAMR_SOURCE
#define PAMR_SOURCE unknown
#endif

enum { BLOCK = 16, MAX_PLANES = 8, MAX_NEIGHBOURS = 8 * 32 };

typedef struct {
    int height, width, border, count; /* pixels; border: the greatest dilation; count: how many, at most 32 */
    const int *dilations;             /* pixels, each at least 1 */
} pamr_grid;

INLINE ptrdiff_t rounded(const pamr_grid *g) { return ((ptrdiff_t)g->width + BLOCK - 1) / BLOCK * BLOCK; }
INLINE ptrdiff_t pitch(const pamr_grid *g) { return rounded(g) + 2 * (ptrdiff_t)g->border; }
INLINE ptrdiff_t plane(const pamr_grid *g) { return pitch(g) * g->height; }
INLINE ptrdiff_t weights_of(const pamr_grid *g, int y) { return y * rounded(g) * 8 * g->count; }

/* The first pixel of a row, without its border; of a row outside of the picture, the outermost one's. */
INLINE ptrdiff_t start(const pamr_grid *g, int y) {
    return (y < 0 ? 0 : y < g->height ? y : g->height - 1) * pitch(g) + g->border;
}

/* How many pixels lie between those of a row and their neighbours. Returns the number of neighbours. */
INLINE int find_neighbours(const pamr_grid *g, int y, ptrdiff_t *steps) {
    for (int i = 0; i < g->count; i++)
        for (int q = 0; q < 9; q++) {
            const int d = g->dilations[i];
            if (q != 4) *steps++ = start(g, y + (q / 3 - 1) * d) - start(g, y) + (q % 3 - 1) * d;
        }
    return 8 * g->count;
}

/* Repeat the outermost pixels of a row, `lanes` floats each, in its border. */
INLINE void repeat_outermost(const pamr_grid *g, float *row, int lanes) {
    for (ptrdiff_t x = -g->border; x < rounded(g) + g->border; x = x == -1 ? g->width : x + 1)
        for (int c = 0; c < lanes; c++) row[x * lanes + c] = row[(x < 0 ? 0 : g->width - 1) * lanes + c];
}

/* e to the power of x from -87 to 0, within two units in the last place: the polynomial of Cephes's expf. */
INLINE float exponential(float x) {
    const int n = (int)(x * 1.44269504f - 0.5f); /* to the nearest: x is not positive */
    const float r = x - (float)n * 0.693359375f + (float)n * 2.12194440e-4f;
    float p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    union { int bits; float value; } power;
    p = (((p * r + 8.3334519073e-3f) * r + 4.1665795894e-2f) * r + 1.6666665459e-1f) * r + 5.0000001201e-1f;
    power.bits = (n + 127) << 23;
    return (p * r * r + r + 1.0f) * power.value;
}

#if defined(__GNUC__) && defined(__x86_64__)
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma")))
#define NAME(f) f##_avx512
#define LANES 16
#include "pamr.c"
#define TARGET __attribute__((target("avx2,fma")))
#define NAME(f) f##_avx2
#define LANES 8
#include "pamr.c"
#define CALL(f, ...) \
    (version == 2 ? f##_avx512(__VA_ARGS__) : version == 1 ? f##_avx2(__VA_ARGS__) : f##_plain(__VA_ARGS__))
#else
#define CALL(f, ...) ((void)version, f##_plain(__VA_ARGS__))
#endif
#define TARGET
#define NAME(f) f##_plain
#if defined(__GNUC__)
#define LANES 4 /* SSE2, NEON, SIMD of WebAssembly */
#else
#define LANES 1
#endif
#include "pamr.c"

/* The sha256 of this file that the build gave. */
PUBLIC const char *pamr_source(void) { return TEXT_OF(PAMR_SOURCE); }

/* The fastest `version` of the loops for this processor: 2 needs AVX-512, 1 AVX2 and FMA, 0 nothing. */
PUBLIC int pamr_version(void) {
#if defined(__GNUC__) && defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
    return 0;
}

/* Copy plain planes (N, H, W) to padded planes, or to a sheet, with zeros beyond the last class. */
PUBLIC void pamr_put(const pamr_grid *g, int classes, const float *plain, float *padded, int first, int last) {
    const ptrdiff_t size = (ptrdiff_t)g->height * g->width;
    for (int y = first; y < last; y++) {
        const float *from = plain + (ptrdiff_t)y * g->width;
        for (int c = 0; c < classes && classes <= MAX_PLANES; c++) {
            float *to = padded + c * plane(g) + start(g, y);
            for (int x = 0; x < g->width; x++) to[x] = from[c * size + x];
            repeat_outermost(g, to, 1);
        }
        if (classes > MAX_PLANES) {
            float *to = padded + start(g, y) * BLOCK;
            for (int x = 0; x < g->width; x++)
                for (int c = 0; c < BLOCK; c++) to[x * BLOCK + c] = c < classes ? from[c * size + x] : 0.0f;
            repeat_outermost(g, to, BLOCK);
        }
    }
}

/* Copy padded planes or a sheet to plain planes (N, H, W). */
PUBLIC void pamr_take(const pamr_grid *g, int classes, const float *padded, float *plain, int first, int last) {
    const ptrdiff_t lanes = classes > MAX_PLANES ? BLOCK : 1, apart = classes > MAX_PLANES ? 1 : plane(g);
    for (int y = first; y < last; y++)
        for (int c = 0; c < classes; c++) {
            const float *from = padded + start(g, y) * lanes + c * apart;
            float *to = plain + ((ptrdiff_t)c * g->height + y) * g->width;
            for (int x = 0; x < g->width; x++) to[x] = from[x * lanes];
        }
}

/* Weights that add up to one, of a picture's three colours, 0 to 255, as padded planes. */
PUBLIC void pamr_weigh(int version, const pamr_grid *g, const float *colours, float *weights, int first, int last) {
    for (int y = first; y < last; y++) CALL(weigh, g, colours, weights + weights_of(g, y), y);
}

/* One iteration: every score becomes the weighted mean of its neighbours' scores. */
PUBLIC void pamr_spread(int version, const pamr_grid *g, int classes, const float *source, const float *weights,
                        float *target, int first, int last) {
    for (int y = first; y < last; y++)
        if (classes > MAX_PLANES)
            CALL(spread_sheet, g, source, weights + weights_of(g, y), target, y);
        else
            CALL(spread_planes, g, classes, source, weights + weights_of(g, y), target, y);
}

#else /* ---------------------------------------------------------------------- the loops, for one kind of processor */

#if LANES > 1
typedef float NAME(vector) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef float NAME(narrow) __attribute__((vector_size(LANES < 8 ? 16 : 32), aligned(4), may_alias));
#else
typedef float NAME(vector), NAME(narrow);
#endif
#define VECTOR(address) (*(NAME(vector) *)(address))
#define NARROW(address) (*(NAME(narrow) *)(address))

TARGET static void NAME(weigh)(const pamr_grid *g, const float *colours, float *weights, int y) {
    ptrdiff_t steps[MAX_NEIGHBOURS];
    const ptrdiff_t neighbours = find_neighbours(g, y, steps);
    const float samples = 9.0f * g->count; /* the pixel itself once for each dilation */
    for (ptrdiff_t x = 0; x < rounded(g); x += BLOCK, weights += neighbours * BLOCK) {
        const float *here[3];
        float scale[3][BLOCK], sum[BLOCK] = {0};
        for (int c = 0; c < 3; c++) here[c] = colours + c * plane(g) + start(g, y) + x;
        for (ptrdiff_t l = 0; l < BLOCK; l += LANES) { /* unbiased variance; the sums are whole numbers, exact */
            NAME(vector) total[3] = {{0}}, square[3] = {{0}};
            for (ptrdiff_t k = 0; k < neighbours; k++)
                for (int c = 0; c < 3; c++) {
                    const NAME(vector) difference = VECTOR(here[c] + steps[k] + l) - VECTOR(here[c] + l);
                    total[c] += difference;
                    square[c] += difference * difference;
                }
            for (int c = 0; c < 3; c++)
                VECTOR(scale[c] + l) = (square[c] - total[c] * total[c] / samples) / (samples - 1.0f);
        }
        for (int c = 0; c < 3; c++)
            for (ptrdiff_t l = 0; l < BLOCK; l++)
                scale[c][l] = -1.0f / (3.0f * (1e-8f + 0.1f * sqrtf(scale[c][l] > 0.0f ? scale[c][l] : 0.0f)));
        for (ptrdiff_t k = 0; k < neighbours; k++)
            for (ptrdiff_t l = 0; l < BLOCK; l++) { /* one logit is above -32 (numpy_kernels.py): none is subtracted */
                float logit = 0.0f;
                for (int c = 0; c < 3; c++) logit += fabsf(here[c][steps[k] + l] - here[c][l]) * scale[c][l];
                sum[l] += weights[k * BLOCK + l] = exponential(logit);
            }
        for (ptrdiff_t k = 0; k < neighbours; k++)
            for (ptrdiff_t l = 0; l < BLOCK; l++) weights[k * BLOCK + l] /= sum[l];
    }
}

/* A pixel is a cache line, so no load straddles two; a weight is loaded once for 16 classes. */
TARGET static void NAME(spread_sheet)(const pamr_grid *g, const float *source, const float *weights, float *target,
                                      int y) {
    enum { PIXELS = LANES == 16 ? 4 : 2, VECTORS = BLOCK / LANES }; /* measured: fewer sums than registers */
    ptrdiff_t steps[MAX_NEIGHBOURS];
    const ptrdiff_t neighbours = find_neighbours(g, y, steps);
    const float *far = source + start(g, y + g->border + 1) * BLOCK, *from = source + start(g, y) * BLOCK;
    float *to = target + start(g, y) * BLOCK;
    for (ptrdiff_t k = 0; k < neighbours; k++) steps[k] *= BLOCK;
    for (ptrdiff_t x = 0; x < g->width; x += PIXELS) {
        const float *w = weights + x / BLOCK * BLOCK * neighbours, *next = w + (4 * BLOCK + x % BLOCK) * neighbours;
        NAME(vector) sums[PIXELS][VECTORS] = {{{0}}};
        for (int p = 0; p < PIXELS; p++) PREFETCH(far + (x + p) * BLOCK);
        for (ptrdiff_t k = 0; k < neighbours * PIXELS; k += BLOCK) PREFETCH(next + k);
        for (ptrdiff_t k = 0; k < neighbours; k++)
            for (int p = 0; p < PIXELS; p++)
                for (int v = 0; v < VECTORS; v++)
                    sums[p][v] += w[k * BLOCK + x % BLOCK + p] * VECTOR(from + steps[k] + (x + p) * BLOCK + v * LANES);
        for (int p = 0; p < PIXELS; p++)
            for (int v = 0; v < VECTORS; v++) VECTOR(to + (x + p) * BLOCK + v * LANES) = sums[p][v];
    }
    repeat_outermost(g, to, BLOCK);
}

/* `many` planes share the loads of their weights, 1 or 4. Neighbours straddle cache lines, wide ones always. */
TARGET INLINE void NAME(spread_some)(const pamr_grid *g, const ptrdiff_t *planes, const float *source,
                                     const float *weights, float *target, int y, const int many) {
    enum { WIDTH = sizeof(NAME(narrow)) / 4, VECTORS = BLOCK / WIDTH };
    ptrdiff_t steps[MAX_NEIGHBOURS];
    const ptrdiff_t neighbours = find_neighbours(g, y, steps);
    const float *from = source + start(g, y);
    float *to = target + start(g, y);
    for (ptrdiff_t x = 0; x < g->width; x += BLOCK, weights += neighbours * BLOCK) {
        NAME(narrow) sums[4][VECTORS] = {{{0}}};
        for (ptrdiff_t k = 0; k < neighbours; k++) {
            const float *w = weights + k * BLOCK, *near = from + x + steps[k];
            PREFETCH(w + 2 * neighbours * BLOCK);
            for (int v = 0; v < VECTORS; v++)
                for (int p = 0; p < many; p++)
                    sums[p][v] += NARROW(w + v * WIDTH) * NARROW(near + planes[p] + v * WIDTH);
        }
        for (int p = 0; p < many; p++)
            for (int v = 0; v < VECTORS; v++) NARROW(to + planes[p] + x + v * WIDTH) = sums[p][v];
    }
    for (int p = 0; p < many; p++) repeat_outermost(g, to + planes[p], 1);
}

TARGET static void NAME(spread_planes)(const pamr_grid *g, int classes, const float *source, const float *weights,
                                       float *target, int y) {
    for (int c = 0; c < classes; c += 4) {
        ptrdiff_t planes[4]; /* beyond the last class the last one again */
        for (int p = 0; p < 4; p++) planes[p] = (c + p < classes ? c + p : classes - 1) * plane(g);
        if (c + 1 == classes)
            NAME(spread_some)(g, planes, source, weights, target, y, 1);
        else
            NAME(spread_some)(g, planes, source, weights, target, y, 4);
    }
}

#undef TARGET
#undef NAME
#undef LANES
#undef VECTOR
#undef NARROW
#endif
