// Runs CUDA kernels on the CPU: the threads of a block are fibres, which change places at __syncthreads().
//
// Compiled with -DKERNELS="..." (the .cu file) and -DTABLE=X(product) X(norms) ... (its kernels). Blocks run one after
// the other, so __shared__ variables are static ones.
#include <ucontext.h>

#include <csetjmp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

struct dim {
    unsigned x, y, z;
};
static dim threadIdx, blockIdx, blockDim, gridDim;

// A context starts a fibre; from then on jumps, which need no system call, change places.
struct fibre {
    ucontext_t start;
    jmp_buf here;
    bool begun, done;
};
static ucontext_t beginning;
static jmp_buf scheduler;
static std::vector<fibre> fibres;
static size_t running;

static void wait_for_block() {
    if (!_setjmp(fibres[running].here)) _longjmp(scheduler, 1);
}

#define __global__ static
#define __device__
#define __shared__ static
#define __syncthreads wait_for_block
#include KERNELS

template <typename... A, size_t... I>
static void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A*>(arguments[I])...);
}

template <typename... A>
static void invoke(void (*kernel)(A...), void** arguments) {
    call(kernel, arguments, std::index_sequence_for<A...>{});
}

static void (*entry)(void**);
static void** given;

static void run_fibre() {
    entry(given);
    fibres[running].done = true;
    _longjmp(scheduler, 1);
}

static void locate(size_t thread) {
    running = thread;
    threadIdx = {unsigned(thread % blockDim.x), unsigned(thread / blockDim.x % blockDim.y),
                 unsigned(thread / blockDim.x / blockDim.y)};
}

static void run_block(std::vector<std::vector<char>>& stacks) {
    const size_t threads = stacks.size();
    fibres.assign(threads, {});
    for (size_t t = 0; t < threads; t++) {
        ucontext_t& start = fibres[t].start;
        getcontext(&start);
        start.uc_stack.ss_sp = stacks[t].data();
        start.uc_stack.ss_size = stacks[t].size();
        start.uc_link = nullptr;
        makecontext(&start, run_fibre, 0);
    }
    static bool left;  // static, since jumps may not keep locals
    static size_t t;
    for (left = true; left;) {
        left = false;
        for (t = 0; t < threads; t++) {
            if (fibres[t].done) continue;
            locate(t);
            if (!_setjmp(scheduler)) {
                if (fibres[t].begun) _longjmp(fibres[t].here, 1);
                fibres[t].begun = true;
                swapcontext(&beginning, &fibres[t].start);
            }
            left = left || !fibres[t].done;
        }
    }
}

// 0, or 1 for an unknown kernel. The threads of a kernel without barriers run one after the other, without fibres.
extern "C" int launch(const char* name, const unsigned* grid, const unsigned* block, int barriers, void** arguments) {
    entry = nullptr;
#define X(kernel) \
    if (!std::strcmp(name, #kernel)) entry = [](void** a) { invoke(kernel, a); };
    TABLE
#undef X
    if (!entry) return 1;
    given = arguments;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    const size_t threads = size_t(blockDim.x) * blockDim.y * blockDim.z;
    std::vector<std::vector<char>> stacks(barriers ? threads : 0, std::vector<char>(1 << 16));
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) {
                if (barriers) {
                    run_block(stacks);
                    continue;
                }
                for (size_t t = 0; t < threads; t++) {
                    locate(t);
                    entry(arguments);
                }
            }
    return 0;
}
