/*
 * Roles: the processes, threads and images that one program consists of.
 *
 * Each makes those calls of the program that are its own. All share one record:
 * the results, the arena and the request lie in one file, which is inherited by
 * fork and found again after execve by a descriptor. No role returns into code
 * that another one runs, and none touches the C library's thread data, for
 * threads share it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "plan.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#define STACK 65536UL
#define PAGE 4096UL

/* At the top of a role's stack; the child of a call finds it in a register, see call.c. */
struct start {
	uint64_t stack;
	const struct plan *plan;
	uint32_t role;
};

static uint8_t *stacks;

static int64_t raw(int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	const uint64_t arguments[WIRE_ARGUMENTS] = { a, b, c, d };

	return call_make(number, WIRE_NATIVE, arguments, CHILD_ENDS);
}

void record_make(void)
{
	int fd = (int)syscall(SYS_memfd_create, "record", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, RECORD_SIZE) < 0)
		die("memory for the wire");
	if (fd != WIRE_RECORD && (dup3(fd, WIRE_RECORD, O_CLOEXEC) < 0 || close(fd) < 0))
		die("the record's descriptor");
	board = mmap(NULL, RECORD_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
		     WIRE_RECORD, 0);
	if (board == MAP_FAILED)
		die("memory for the wire");
}

void record_forget(void)
{
	madvise(board, RECORD_SIZE, MADV_REMOVE);
}

static bool executes(const struct plan *plan)
{
	for (uint32_t i = 0; i < plan->program->calls; i++) {
		const struct wire_call *call = &plan->calls[i];

		if (call->starts && (call->number == SYS_execve || call->number == SYS_execveat))
			return true;
	}
	return false;
}

void roles_prepare(const struct plan *plan, const void *request, size_t length)
{
	uint8_t *record = (uint8_t *)board;

	board->keep = true;
	board->used = plan->used;
	board->request = length;
	memcpy(record + RECORD_REQUEST, request, length);
	memset(record + RECORD_ARENA, 0, plan->program->arena);
	memcpy(record + RECORD_ARENA, plan->data, plan->program->data);
}

static bool map_shared_arena(const struct plan *plan)
{
	size_t size = (plan->program->arena + PAGE - 1) & ~(PAGE - 1);
	void *at = mmap((void *)WIRE_ARENA, size ? size : PAGE, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_FIXED_NOREPLACE, WIRE_RECORD, RECORD_ARENA);

	if (at != MAP_FAILED && at != (void *)WIRE_ARENA)
		errno = EEXIST;
	return at == (void *)WIRE_ARENA;
}

static bool make_stacks(const struct plan *plan)
{
	stacks = mmap(NULL, plan->program->roles * STACK, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return stacks != MAP_FAILED;
}

static bool is_awaited_asleep(const struct plan *plan, uint32_t role)
{
	for (uint32_t i = 0; i < plan->program->calls; i++) {
		const struct wire_value *argument = plan->calls[i].argument;

		if (plan->calls[i].abi == WIRE_DEED && argument[1].value == WIRE_UNTIL_ASLEEP &&
		    argument[0].value < plan->program->calls &&
		    plan->calls[argument[0].value].role == role)
			return true;
	}
	return false;
}

/* Who waits for a role to sleep looks at it in proc(5), whose numbers are those of its mount. */
static void leave_name(const struct plan *plan, uint32_t role)
{
	if (is_awaited_asleep(plan, role))
		raw(SYS_readlink, (uintptr_t)"/proc/thread-self", (uintptr_t)plan->tasks[role],
		    sizeof(plan->tasks[role]) - 1, 0);
}

bool roles_enter(const struct plan *plan, uint32_t role)
{
	if (!map_shared_arena(plan) || !make_stacks(plan))
		return false;
	if (executes(plan))
		fcntl(WIRE_RECORD, F_SETFD, 0);
	else
		close(WIRE_RECORD);
	leave_name(plan, role);
	return true;
}

/* Entered on a stack of its own by the child of a call. */
_Noreturn __attribute__((used)) void role_begin(const struct start *start)
{
	/* As set_up does for the first process: beside others nothing outlives the agent. */
	if (!agent.pid1)
		raw(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0);
	leave_name(start->plan, start->role);
	execute(start->plan, start->role);
}

uintptr_t roles_start(const struct plan *plan, const struct wire_call *call)
{
	struct start *start;

	if (!call->starts)
		return plan->program->flags & WIRE_PAUSE_CHILDREN ? CHILD_PAUSES : CHILD_ENDS;
	start = (struct start *)(stacks + (call->starts + 1UL) * STACK) - 1;
	start->stack = (uintptr_t)start & ~15UL;
	start->plan = plan;
	start->role = call->starts;
	return (uintptr_t)start;
}

static uint32_t *half(const struct plan *plan, uint32_t call)
{
	return (uint32_t *)&plan->values[call];
}

void roles_note(const struct plan *plan, uint32_t call, int64_t value)
{
	__atomic_store_n(&plan->values[call], value, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&board->waiting, __ATOMIC_SEQ_CST))
		raw(SYS_futex, (uintptr_t)half(plan, call), FUTEX_WAKE, WIRE_ROLES, 0);
}

static size_t append(char *path, size_t at, const char *text, size_t size)
{
	for (size_t i = 0; i < size && text[i]; i++)
		path[at++] = text[i];
	path[at] = '\0';
	return at;
}

/* Whether the task named in proc(5) sleeps, is stopped or has ended; unknown is as if it did. */
static bool is_asleep(const char *task)
{
	char path[64], text[256];
	size_t at = append(path, 0, "/proc/", 6);
	int64_t fd, length;

	if (!task[0])
		return true;
	at = append(path, at, task, 31);
	append(path, at, "/stat", 5);
	fd = raw(SYS_open, (uintptr_t)path, O_RDONLY | O_CLOEXEC, 0, 0);
	if (fd < 0)
		return true;
	length = raw(SYS_read, (uint64_t)fd, (uintptr_t)text, sizeof(text), 0);
	raw(SYS_close, (uint64_t)fd, 0, 0, 0);
	/* The state stands after the name, which is in parentheses and may hold any byte. */
	for (int64_t i = length - 1; i > 0; i--)
		if (text[i] == ')')
			return i + 2 < length && strchr("STtZX", text[i + 2]);
	return true;
}

static void nap(void)
{
	const struct timespec span = { .tv_nsec = 200000 };

	raw(SYS_nanosleep, (uintptr_t)&span, 0, 0, 0);
}

static int64_t await(const struct plan *plan, uint32_t call, uint64_t until)
{
	const struct timespec span = { .tv_nsec = 20000000 };
	int64_t value;

	for (;;) {
		value = __atomic_load_n(&plan->values[call], __ATOMIC_SEQ_CST);
		if (value != WIRE_UNMADE && value != WIRE_BEGUN)
			return 0;
		if (value == WIRE_BEGUN && until == WIRE_UNTIL_BEGUN)
			return 0;
		if (value == WIRE_BEGUN && until == WIRE_UNTIL_ASLEEP) {
			if (is_asleep(plan->tasks[plan->calls[call].role]))
				return 0;
			nap();
			continue;
		}
		__atomic_add_fetch(&board->waiting, 1, __ATOMIC_SEQ_CST);
		/* The low half tells the two apart from each other; a lost wake-up costs 20 ms. */
		raw(SYS_futex, (uintptr_t)half(plan, call), FUTEX_WAIT, (uint32_t)value,
		    (uintptr_t)&span);
		__atomic_sub_fetch(&board->waiting, 1, __ATOMIC_SEQ_CST);
	}
}

int64_t roles_deed(const struct plan *plan, int64_t number, const uint64_t *arguments)
{
	if (number != WIRE_AWAIT || arguments[0] >= plan->program->calls)
		return -EINVAL;
	return await(plan, (uint32_t)arguments[0], arguments[1]);
}

static void *map_record(size_t size, off_t offset)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, WIRE_RECORD, offset);

	if (at == MAP_FAILED)
		_exit(125);
	return at;
}

/* The call that executed this image returned nothing, so its value is set here. */
static void note_execution(const struct plan *plan, uint32_t role)
{
	for (uint32_t i = 0; i < plan->program->calls; i++)
		if (plan->calls[i].starts == role)
			roles_note(plan, i, 0);
}

void roles_resume(uint32_t role)
{
	static struct plan plan;
	struct cursor cursor = { 0 };
	size_t used;

	agent.pid1 = true;	/* what is ours to set was set before the execution, and remains */
	board = map_record(sizeof(*board), 0);
	used = board->used;
	cursor.length = board->request;
	board = map_record(used, 0);
	cursor.start = map_record(cursor.length, RECORD_REQUEST);
	if (plan_read(&cursor, &plan) || role >= plan.program->roles || plan.used != used ||
	    !roles_enter(&plan, role))
		_exit(125);
	note_execution(&plan, role);
	execute(&plan, role);
}
