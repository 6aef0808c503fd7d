/*
 * exits 0 where it sees what 5.10 did:
 * r0 = bpf(0, {map_type=0x1, key_size=0x4, value_size=0x8, max_entries=0x1, map_fd=0x1, key=0x100000008, prog_type=0x1, insn_cnt=0x4, insns=0x100000008, pathname=0x400000001, bpf_fd=0x8, file_flags=0x1, target_fd=0x1, target_ifindex=0x1, attach_bpf_fd=0x4, attach_type=0x8, attach_flags=0x1, start_id=0x1, prog_id=0x1, map_id=0x1, btf_id=0x1, link_id=0x1, next_id=0x4, open_flags=0x8, fd_by_id_token_fd=0x1, btf=0x400000001, btf_log_buf=0x100000008, link_detach=0x1, enable_stats=0x1, iter_create=0x400000001, token_create=0x400000001}, 128) = 3
 * r1 = bpf(22, {map_fd=r0}, 128) = 0
 * r2 = bpf(22, {map_fd=r0}, 128) = -EBUSY
 * exited 0
 * fd 3: anon_inode:bpf-map cloexec=1 flags=02 mode=0600
 *
 * exits 1 where it sees what 6.12 did:
 * r0 = bpf(0, {map_type=0x1, key_size=0x4, value_size=0x8, max_entries=0x1, map_fd=0x1, key=0x100000008, prog_type=0x1, insn_cnt=0x4, insns=0x100000008, pathname=0x400000001, bpf_fd=0x8, file_flags=0x1, target_fd=0x1, target_ifindex=0x1, attach_bpf_fd=0x4, attach_type=0x8, attach_flags=0x1, start_id=0x1, prog_id=0x1, map_id=0x1, btf_id=0x1, link_id=0x1, next_id=0x4, open_flags=0x8, fd_by_id_token_fd=0x1, btf=0x400000001, btf_log_buf=0x100000008, link_detach=0x1, enable_stats=0x1, iter_create=0x400000001, token_create=0x400000001}, 128) = 3
 * r1 = bpf(22, {map_fd=r0}, 128) = 0
 * r2 = bpf(22, {map_fd=r0}, 128) = -EPERM
 * exited 0
 * fd 3: anon_inode:bpf-map cloexec=1 flags=02 mode=0600
 *
 *
 * cc -o reproducer reproducer.c && ./reproducer; exit status 2: something else was seen,
 * 3: it could not be tried. Made by hostabi.
 */
#include "shared-1.h"

#define CALLS 3
#define ARENA 131072
#define SIDES 2
#define NAMESPACES 0x2e020000L
#define UID 0
#define GID 0
#define MAP_ROOT 1
#define NO_NEW_PRIVS 0
#define OWN_PROC 0
#define OWN_SYS 0
#define OVERLAY 0
/* Whether TMPDIR has to name a folder on ext4; what is there, linux/magic.h numbers. */
#define EXT4 0
#define EXT4_MAGIC 0xef53
#define SECONDS 10
/* What a process does that a call makes: 1 it ends at once, 2 it waits to be killed. */
#define CHILDREN 1
/* Bits of the deciding call's result that matter, where it is compared with what was seen. */
#define BITS -1
#define X32_BIT 0x40000000L

enum abi { NATIVE, X32, IA32 };
/* What is expected of the deciding call: nothing, that it works, an errno, a signal that
 * ends the program there, that it hangs, or the very result and bytes of the first side. */
enum expect { NOTHING, WORKS, FAILS, SIGNALLED, HANGS, SEEN };

struct seen {
	int64_t values[CALLS + 1];
	unsigned char outputs[1];
};

struct side {
	const char *name;
	int64_t values[CALLS + 1];
	const char *outputs, *mask;
};

static const struct { unsigned offset, length; const char *bytes; } data[] = {
	{ 0, 13,
	"\001\000\000\000\004\000\000\000\010\000\000\000\001" },
	{ 176, 1,
	"\011" },
	{ 192, 8,
	"abcd1234" },
	{ 232, 1,
	"\002" },
	{ 384, 1,
	"\001" },
	{ 768, 2,
	"n1" },
	{ 784, 17,
	"B\000\010\000\000\000\000\000\200\001\000\000\000\000\000\000\001" },
	{ 0, 0, 0 }
};
static const char *const names[] = {
	"bpf",
	"bpf",
	"bpf",
	0
};
static const struct { int call; unsigned offset, length; } outputs[] = {
	{ -1, 0, 0 }
};
/* INT64_MIN: not reached; INT64_MAX: anything but an error. */
static const struct side sides[] = {
	{ "5.10", { 3LL, 0LL, -16LL },
	"",
	"" },
	{ "6.12", { 3LL, 0LL, -1LL },
	"",
	"" },
	{ 0, { 0 }, "", "" }
};

/* Calls that have to work first, then the one that decides. */
static const int chain[] = { -1 };
static const int fine[] = { 0 };
static const enum expect expect = NOTHING;
static const int expected = 0;
static const unsigned char filter[] =
	"";

#include "shared-2.h"

static void program(void)
{
	/* r0 = bpf(0, {map_type=0x1, key_size=0x4, value_size=0x8, max_entries=0x1, map_fd=0x1, key=0x100000008, prog_type=0x1, insn_cnt=0x4, insns=0x100000008, pathname=0x400000001, bpf_fd=0x8, file_flags=0x1, target_fd=0x1, target_ifindex=0x1, attach_bpf_fd=0x4, attach_type=0x8, attach_flags=0x1, start_id=0x1, prog_id=0x1, map_id=0x1, btf_id=0x1, link_id=0x1, next_id=0x4, open_flags=0x8, fd_by_id_token_fd=0x1, btf=0x400000001, btf_log_buf=0x100000008, link_detach=0x1, enable_stats=0x1, iter_create=0x400000001, token_create=0x400000001}, 128) */
	do_call(0, 321, NATIVE, 0, AT(0), 128, 0, 0, 0);
	/* r1 = bpf(22, {map_fd=r0}, 128) */
	store(400, 4, R(0));
	do_call(1, 321, NATIVE, 22, AT(400), 128, 0, 0, 0);
	/* r2 = bpf(22, {map_fd=r0}, 128) */
	store(592, 4, R(0));
	do_call(2, 321, NATIVE, 22, AT(592), 128, 0, 0, 0);
}

#include "shared-3.h"
