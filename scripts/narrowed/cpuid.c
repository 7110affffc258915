// Answers the instruction CPUID as a narrower x86 processor would, for the libraries of one process (Linux, x86-64).
//
// Libraries ask CPUID which of their code paths this processor can run. As each library is loaded, its CPUID
// instructions (0F A2) become 0F 04, which no processor defines and no compiler writes, and which raises SIGILL. The
// handler asks the processor, clears the features that the narrower processor lacks, and goes on behind the
// instruction. All else runs at the machine's speed.
//
// Load it as LD_AUDIT, for la_objopen, and as LD_PRELOAD too, so that nobody takes the signal handler away. Environment:
//   NARROWED_TO      Haswell, Nehalem, Skylake-X or Icelake
//   NARROWED_SITES   a file that sites.py makes: where the CPUID instructions of each library are
//   NARROWED_ROOT    how paths begin whose libraries must all be in this file; others stay as they are if they are not
//
// cc -O2 -shared -fPIC cpuid.c -o cpuid.so -ldl
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <link.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

enum { EAX, EBX, ECX, EDX };
enum { UNDEFINED = 0x04 };

// Features that a processor lacks: bits of a register's answer to a leaf and subleaf.
struct lack {
    uint32_t leaf, subleaf;
    int reg;
    uint32_t bits;
};

#define BIT(n) (1u << (n))

// Above Ice Lake: AVX-VNNI, AVX512_BF16, AVX512_FP16, AVX-IFMA, AMX, AVX10.
#define ABOVE_ICELAKE                                                                                   \
    {7, 0, EDX, BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25)}, {7, 1, EAX, BIT(4) | BIT(5) | BIT(21) | BIT(23)}, \
        {7, 1, EDX, BIT(4) | BIT(5) | BIT(10) | BIT(19)}, {0xd, 0, EAX, BIT(17) | BIT(18)},                \
        {0x1d, 0, EAX, ~0u}, {0x1e, 0, EBX, ~0u}, {0x24, 0, EBX, ~0u}

// Above Skylake-X: AVX512_VBMI, VBMI2, GFNI, VAES, VPCLMULQDQ, VNNI, BITALG, VPOPCNTDQ; IFMA.
#define ABOVE_SKYLAKE_X                                                                                        \
    ABOVE_ICELAKE, {7, 0, ECX, BIT(1) | BIT(6) | BIT(8) | BIT(9) | BIT(10) | BIT(11) | BIT(12) | BIT(14)}, \
        {7, 0, EBX, BIT(21)}

// Above Haswell: AVX512F, DQ, CD, BW, VL, and the state of its registers.
#define ABOVE_HASWELL                                                                                          \
    ABOVE_SKYLAKE_X, {7, 0, EBX, BIT(16) | BIT(17) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31)}, \
        {0xd, 0, EAX, BIT(5) | BIT(6) | BIT(7)}

// Above Nehalem: FMA, XSAVE, OSXSAVE, AVX, F16C, MOVBE; BMI1, AVX2, BMI2; LZCNT, FMA4, XOP.
#define ABOVE_NEHALEM                                                                                    \
    ABOVE_HASWELL, {1, 0, ECX, BIT(12) | BIT(22) | BIT(26) | BIT(27) | BIT(28) | BIT(29)}, \
        {7, 0, EBX, BIT(3) | BIT(5) | BIT(8)}, {0x80000001, 0, ECX, BIT(5) | BIT(11) | BIT(16)}

static const struct lack icelake[] = {ABOVE_ICELAKE, {0}}, skylake_x[] = {ABOVE_SKYLAKE_X, {0}},
                         haswell[] = {ABOVE_HASWELL, {0}}, nehalem[] = {ABOVE_NEHALEM, {0}};

static const struct {
    const char *name;
    const struct lack *lacks;
} processors[] = {{"Icelake", icelake}, {"Skylake-X", skylake_x}, {"Haswell", haswell}, {"Nehalem", nehalem}};

static const struct lack *lacks;
static int audits; // in the copy that is loaded as LD_AUDIT

static void stop(const char *what, const char *which) {
    fprintf(stderr, "narrowed: %s %s\n", what, which ? which : "(not set)");
    _exit(127);
}

// The handler: CPUID where its replacement stands. Another illegal instruction ends the process as it would have.
static void answer(int signal_number, siginfo_t *info, void *context) {
    (void)signal_number, (void)info;
    greg_t *at = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *code = (const uint8_t *)at[REG_RIP];
    if (code[0] != 0x0f || code[1] != UNDEFINED) {
        signal(SIGILL, SIG_DFL); // it is raised again as this returns
        return;
    }
    uint32_t leaf = (uint32_t)at[REG_RAX], subleaf = (uint32_t)at[REG_RCX], registers[4];
    __cpuid_count(leaf, subleaf, registers[EAX], registers[EBX], registers[ECX], registers[EDX]);
    for (const struct lack *lack = lacks; lack->bits; lack++)
        if (lack->leaf == leaf && (lack->subleaf == subleaf || (leaf != 7 && leaf != 0xd)))
            registers[lack->reg] &= ~lack->bits;
    at[REG_RAX] = registers[EAX];
    at[REG_RBX] = registers[EBX];
    at[REG_RCX] = registers[ECX];
    at[REG_RDX] = registers[EDX];
    at[REG_RIP] += 2;
}

// The lines of NARROWED_SITES, each "path\taddress address ...".
static char *sites;

static void read_sites(void) {
    const char *name = getenv("NARROWED_SITES");
    FILE *file = name ? fopen(name, "r") : NULL;
    if (!file || fseek(file, 0, SEEK_END)) stop("NARROWED_SITES cannot be read:", name);
    const size_t size = (size_t)ftell(file);
    rewind(file);
    sites = calloc(size + 1, 1);
    if (!sites || fread(sites, 1, size, file) != size) stop("NARROWED_SITES cannot be read:", name);
    fclose(file);
}

// The addresses in a library; NULL where it was not searched.
static const char *addresses(const char *path) {
    const size_t length = strlen(path);
    for (const char *line = sites; *line; line = strchr(line, '\n') + 1)
        if (!strncmp(line, path, length) && line[length] == '\t') return line + length + 1;
    return NULL;
}

unsigned int la_version(unsigned int version) {
    const char *name = getenv("NARROWED_TO");
    for (size_t i = 0; i < sizeof processors / sizeof *processors; i++)
        if (name && !strcmp(processors[i].name, name)) lacks = processors[i].lacks;
    if (!lacks) stop("NARROWED_TO names no processor that is known here:", name);
    read_sites();
    audits = 1;
    struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGILL, &action, NULL);
    return version < LAV_CURRENT ? version : LAV_CURRENT;
}

static void replace(uint8_t *code, const char *path) {
    if (code[0] != 0x0f || code[1] != 0xa2) stop("NARROWED_SITES is older than", path);
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)code & -page;
    const size_t length = ((uintptr_t)code + 2 - start + page - 1) & -page;
    if (mprotect((void *)start, length, PROT_READ | PROT_WRITE)) stop("cannot write to the code of", path);
    code[1] = UNDEFINED;
    if (mprotect((void *)start, length, PROT_READ | PROT_EXEC)) stop("cannot run the code of", path);
}

// Called by the dynamic linker for each library that it has mapped, before any of its code runs.
unsigned int la_objopen(struct link_map *library, Lmid_t list, uintptr_t *cookie) {
    (void)list, (void)cookie;
    char path[4096];
    if (!library->l_name[0] || !realpath(library->l_name, path)) return 0;
    const char *root = getenv("NARROWED_ROOT"), *address = addresses(path);
    if (!address && root && !strncmp(path, root, strlen(root))) stop("NARROWED_SITES says nothing of", path);
    while (address && *address != '\n') {
        char *end;
        replace((uint8_t *)library->l_addr + strtoul(address, &end, 16), path);
        address = end + (*end == ' ');
    }
    return 0; // calls between libraries are of no interest
}

// As LD_PRELOAD: nobody replaces the handler. Python's faulthandler would.
int sigaction(int number, const struct sigaction *action, struct sigaction *old) {
    static int (*real)(int, const struct sigaction *, struct sigaction *);
    if (!real) real = dlsym(RTLD_NEXT, "sigaction");
    if (number == SIGILL && !audits) action = NULL;
    return real(number, action, old);
}
