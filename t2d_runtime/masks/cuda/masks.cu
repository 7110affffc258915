/* From patch tokens to labels on an NVIDIA GPU, in float32: the formulas of the NumPy files in the folder above.

   NVRTC compiles this file for the device when it is opened. Kernels use only float arithmetic, __shared__ memory and
   __syncthreads, so that tests can compile them for the CPU as well.

   W windows, N classes, P = h*w patches, D width, M heads, K neighbours of PAMR. Arrays are rows in C order.
   Kernels over elements take one element a thread and skip the threads beyond the last. Kernels over rows take one row
   a block. No result depends on the order in which blocks run. */

typedef long long index_t;
typedef unsigned char byte_t;

#define TILE 16    /* side of a block of `product` */
#define THREADS 256 /* threads of a block of the kernels over rows */
#define CLASSES 8  /* planes that one thread of `spread` sums, with one load of each weight */
#define LARGEST 3.402823466e38f /* the largest float; NVRTC has no INFINITY */
#define NORM_EPS 1e-6f
#define STD_EPS 1e-8f
#define STD_WEIGHT 0.1f
#define ELEMENT ((index_t)blockIdx.x * blockDim.x + threadIdx.x)

/* A linear resize of one axis: the position of target sample i is i * scale, or (i + 0.5) * scale - 0.5, at least 0. */
struct taps_t {
    int lower, upper;
    float weight; /* of the upper sample */
};

static __device__ taps_t linear_taps(int i, int source, float scale, int align_corners) {
    float position = align_corners ? i * scale : (i + 0.5f) * scale - 0.5f;
    position = position > 0.0f ? position : 0.0f;
    taps_t taps;
    taps.lower = (int)position < source - 1 ? (int)position : source - 1;
    taps.upper = taps.lower + 1 < source - 1 ? taps.lower + 1 : source - 1;
    const float weight = position - taps.lower;
    taps.weight = weight < 1.0f ? weight : 1.0f;
    return taps;
}

static __device__ float blend(const float *plane, int width, taps_t row, taps_t column) {
    const float *above = plane + (index_t)row.lower * width, *below = plane + (index_t)row.upper * width;
    const float first = above[column.upper] * column.weight + above[column.lower] * (1.0f - column.weight);
    const float second = below[column.upper] * column.weight + below[column.lower] * (1.0f - column.weight);
    return second * row.weight + first * (1.0f - row.weight);
}

static __device__ int clamp(int value, int size) { return value < 0 ? 0 : value < size ? value : size - 1; }

/* Sum, or greatest, of one value a thread; every thread gets it. */
static __device__ float over_block(float value, float *shared, int greatest) {
    shared[threadIdx.x] = value;
    __syncthreads();
    for (unsigned step = THREADS / 2; step; step /= 2) {
        if (threadIdx.x < step) {
            const float other = shared[threadIdx.x + step];
            shared[threadIdx.x] = greatest ? fmaxf(shared[threadIdx.x], other) : shared[threadIdx.x] + other;
        }
        __syncthreads();
    }
    const float result = shared[0];
    __syncthreads();
    return result;
}

extern "C" {

/* c[i,j] = sum over k of a[i,k] * b[j * step_j + k * step_k], for each window of the grid's third axis. */
__global__ void product(const float *a, const float *b, float *c, int rows, int columns, int depth, index_t step_j,
                        index_t step_k, index_t next_a, index_t next_b) {
    __shared__ float of_a[TILE][TILE], of_b[TILE][TILE + 1];
    const int x = threadIdx.x, y = threadIdx.y, i = blockIdx.y * TILE + y, first = blockIdx.x * TILE;
    a += blockIdx.z * next_a;
    b += blockIdx.z * next_b;
    float sum = 0.0f;
    for (int start = 0; start < depth; start += TILE) {
        of_a[y][x] = i < rows && start + x < depth ? a[(index_t)i * depth + start + x] : 0.0f;
        /* Neighbouring threads read along the axis that lies together in memory. */
        const int j = first + (step_k == 1 ? y : x), k = start + (step_k == 1 ? x : y);
        const float value = j < columns && k < depth ? b[j * step_j + k * step_k] : 0.0f;
        of_b[j - first][k - start] = value;
        __syncthreads();
        for (int l = 0; l < TILE; l++) sum += of_a[y][l] * of_b[x][l];
        __syncthreads();
    }
    if (i < rows && first + x < columns) c[((index_t)blockIdx.z * rows + i) * columns + first + x] = sum;
}

/* The Euclidean norm of each row. */
__global__ void norms(const float *values, float *found, int length) {
    __shared__ float shared[THREADS];
    const float *row = values + (index_t)blockIdx.x * length;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < length; i += THREADS) sum += row[i] * row[i];
    sum = over_block(sum, shared, 0);
    if (threadIdx.x == 0) found[blockIdx.x] = sqrtf(sum);
}

/* Each row divided by a number and by its norm (similarity.py: NORM_EPS). */
__global__ void normalise(float *values, int length, float divisor) {
    __shared__ float shared[THREADS];
    float *row = values + (index_t)blockIdx.x * length;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < length; i += THREADS) {
        row[i] /= divisor;
        sum += row[i] * row[i];
    }
    const float norm = fmaxf(sqrtf(over_block(sum, shared, 0)), NORM_EPS);
    for (int i = threadIdx.x; i < length; i += THREADS) row[i] /= norm;
}

/* The softmax of each row. */
__global__ void softmax(const float *values, float *found, int length) {
    __shared__ float shared[THREADS];
    const float *row = values + (index_t)blockIdx.x * length;
    float *to = found + (index_t)blockIdx.x * length, highest = -LARGEST, sum = 0.0f;
    for (int i = threadIdx.x; i < length; i += THREADS) highest = fmaxf(highest, row[i]);
    highest = over_block(highest, shared, 1);
    for (int i = threadIdx.x; i < length; i += THREADS) sum += to[i] = expf(row[i] - highest);
    sum = over_block(sum, shared, 0);
    for (int i = threadIdx.x; i < length; i += THREADS) to[i] /= sum;
}

/* Lowest and highest value of each row. */
__global__ void extrema(const float *values, float *found, int length) {
    __shared__ float shared[THREADS];
    const float *row = values + (index_t)blockIdx.x * length;
    float highest = -LARGEST, lowest = LARGEST;
    for (int i = threadIdx.x; i < length; i += THREADS) {
        highest = fmaxf(highest, row[i]);
        lowest = fminf(lowest, row[i]);
    }
    highest = over_block(highest, shared, 1);
    lowest = -over_block(-lowest, shared, 1);
    if (threadIdx.x == 0) {
        found[2 * blockIdx.x] = lowest;
        found[2 * blockIdx.x + 1] = highest;
    }
}

/* Products (W,N,P) divided by the tokens' norms (W,P): cosines (similarity.py). */
__global__ void cosine(float *products, const float *lengths, index_t count, int N, int P) {
    const index_t e = ELEMENT;
    if (e < count) products[e] /= fmaxf(lengths[e / ((index_t)N * P) * P + e % P], NORM_EPS);
}

/* The sigmoid of cosines (similarity.py: scores_of). */
__global__ void sigmoid(float *values, index_t count) {
    const index_t e = ELEMENT;
    if (e < count) values[e] = 1.0f / (1.0f + expf(-values[e]));
}

/* Scores or cosines (W,N,P) mixed with attention (cleaning.py). Extrema are pairs: those of `values` one a window, those
   of `attention` one a window, or one a class where `by_class`, as in the paper. */
__global__ void mix(float *values, const float *attention, const float *range, const float *of_attention, index_t count,
                    int N, int P, float weight, int by_class) {
    const index_t e = ELEMENT;
    if (e >= count) return;
    const index_t window = e / ((index_t)N * P), row = by_class ? e / P : window;
    const float low = of_attention[2 * row], high = of_attention[2 * row + 1], span = by_class ? high - low : high;
    const float least = range[2 * window], greatest = range[2 * window + 1];
    const float share = !by_class || span > 0.0f ? (attention[e] - low) / span : 0.0f;
    values[e] = (values[e] + weight * (share * (greatest - least) + least)) / (1.0f + weight);
}

/* Scores (W,N,P) less an offset (N) each. */
__global__ void shift(float *values, const float *offsets, index_t count, int N, int P) {
    const index_t e = ELEMENT;
    if (e < count) values[e] -= offsets[e / P % N];
}

__global__ void fill(float *values, index_t count, float value) {
    const index_t e = ELEMENT;
    if (e < count) values[e] = value;
}

/* Set `wrong` where a value is not finite. Several threads may, to the same number. */
__global__ void nonfinite(const float *values, index_t count, int *wrong) {
    const index_t e = ELEMENT;
    if (e < count && !(fabsf(values[e]) <= LARGEST)) *wrong = 1;
}

/* Planes (N,h,w) resized to (N,height,width). */
__global__ void resize(const float *planes, float *resized, index_t count, int h, int w, int height, int width,
                       float row_scale, float column_scale, int align_corners) {
    const index_t e = ELEMENT;
    if (e >= count) return;
    const taps_t row = linear_taps((int)(e / width % height), h, row_scale, align_corners);
    const taps_t column = linear_taps((int)(e % width), w, column_scale, align_corners);
    resized[e] = blend(planes + e / ((index_t)height * width) * h * w, w, row, column);
}

/* PAMR's affinity of a window: weights (K,height,width) that add up to one for each pixel (numpy_kernels.py). The picture
   (.,picture_width,3) holds the window from `top` and `left`. Neighbours beyond the window are its outermost pixels. */
__global__ void affinity(const byte_t *picture, float *weights, int picture_width, int top, int left, int height,
                         int width, const int *dilations, int num_dilations) {
    const index_t e = ELEMENT, pixels = (index_t)height * width;
    if (e >= pixels) return;
    const int y = (int)(e / width), x = (int)(e % width);
    const byte_t *window = picture + ((index_t)top * picture_width + left) * 3;
    const byte_t *here = window + ((index_t)y * picture_width + x) * 3;
    float total[3] = {0.0f, 0.0f, 0.0f}, squares[3] = {0.0f, 0.0f, 0.0f}, scale[3], sum = 0.0f;
    for (int pass = 0; pass < 2; pass++) {
        int k = 0;
        for (int d = 0; d < num_dilations; d++)
            for (int n = 0; n < 9; n++) {
                if (n == 4) continue;
                const int row = clamp(y + (n / 3 - 1) * dilations[d], height);
                const int column = clamp(x + (n % 3 - 1) * dilations[d], width);
                const byte_t *there = window + ((index_t)row * picture_width + column) * 3;
                float logit = 0.0f;
                for (int c = 0; c < 3; c++) {
                    const float difference = (float)there[c] - (float)here[c];
                    if (pass == 0) {
                        total[c] += difference;
                        squares[c] += difference * difference;
                    } else
                        logit -= fabsf(difference) / scale[c];
                }
                if (pass == 1) sum += weights[k++ * pixels + e] = expf(logit / 3.0f);
            }
        for (int c = 0; c < 3 && pass == 0; c++) { /* unbiased; the pixel itself counts once for each dilation */
            const float samples = 9.0f * num_dilations;
            const float variance = (squares[c] - total[c] * total[c] / samples) / (samples - 1.0f);
            scale[c] = STD_EPS + STD_WEIGHT * sqrtf(fmaxf(variance, 0.0f));
        }
    }
    for (int k = 0; k < 8 * num_dilations; k++) weights[k * pixels + e] /= sum;
}

/* One iteration of PAMR: each score of `count` planes becomes the weighted mean of its neighbours' scores. The grid's
   second axis takes CLASSES planes at a time. */
__global__ void spread(const float *source, const float *weights, float *target, int count, int height, int width,
                       const int *dilations, int num_dilations) {
    const index_t e = ELEMENT, pixels = (index_t)height * width;
    const int first = blockIdx.y * CLASSES, planes = count - first < CLASSES ? count - first : CLASSES;
    if (e >= pixels) return;
    const int y = (int)(e / width), x = (int)(e % width);
    float sums[CLASSES];
    for (int p = 0; p < CLASSES; p++) sums[p] = 0.0f;
    source += first * pixels;
    target += first * pixels;
    int k = 0;
    for (int d = 0; d < num_dilations; d++)
        for (int n = 0; n < 9; n++) {
            if (n == 4) continue;
            const int row = clamp(y + (n / 3 - 1) * dilations[d], height);
            const int column = clamp(x + (n % 3 - 1) * dilations[d], width);
            const float weight = weights[k++ * pixels + e];
            const float *there = source + (index_t)row * width + column;
            for (int p = 0; p < CLASSES; p++)
                if (p < planes) sums[p] += weight * there[p * pixels];
        }
    for (int p = 0; p < CLASSES; p++)
        if (p < planes) target[p * pixels + e] = sums[p];
}

/* Add a window's planes (N,height,width) to the stitched ones (N,.,.) of `rows` x `columns` pixels. */
__global__ void stitch(const float *planes, float *stitched, index_t count, int height, int width, int top, int left,
                       int rows, int columns) {
    const index_t e = ELEMENT;
    if (e >= count) return;
    const index_t n = e / ((index_t)height * width);
    const int y = top + (int)(e / width % height), x = left + (int)(e % width);
    stitched[(n * rows + y) * columns + x] += planes[e];
}

/* Stitched planes divided by the number of windows at each pixel: that of its row times that of its column. */
__global__ void average(float *stitched, const float *of_rows, const float *of_columns, index_t count, int rows,
                        int columns) {
    const index_t e = ELEMENT;
    if (e < count) stitched[e] /= of_rows[e / columns % rows] * of_columns[e % columns];
}

/* Labels and best scores (height,width), where a plane among (N,rows,columns) exceeds the best so far. The planes are
   resized to that size. Labels have one byte, or two where `wide`; plane n has the label first + n. */
__global__ void label(const float *planes, float *best, void *labels, int N, int rows, int columns, int height,
                      int width, float row_scale, float column_scale, int first, int wide) {
    const index_t e = ELEMENT;
    if (e >= (index_t)height * width) return;
    const taps_t row = linear_taps((int)(e / width), rows, row_scale, 0);
    const taps_t column = linear_taps((int)(e % width), columns, column_scale, 0);
    float highest = best[e];
    int winner = -1;
    for (int n = 0; n < N; n++) {
        const float value = blend(planes + (index_t)n * rows * columns, columns, row, column);
        if (value > highest) {
            highest = value;
            winner = first + n;
        }
    }
    if (winner < 0) return;
    best[e] = highest;
    if (wide)
        ((unsigned short *)labels)[e] = (unsigned short)winner;
    else
        ((byte_t *)labels)[e] = (byte_t)winner;
}

} /* extern "C" */
