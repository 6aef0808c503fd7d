/* Programs: short lists of system calls, each list in a child of its own. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "plan.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

static uint64_t resolve(const struct plan *plan, const struct wire_value *value)
{
	const volatile uint8_t *arena = (const volatile uint8_t *)WIRE_ARENA;
	uint64_t word = 0;

	switch (value->kind) {
	case WIRE_RESULT:
		return (uint64_t)plan->values[value->value];
	case WIRE_POINTER:
		return WIRE_ARENA + value->value;
	case WIRE_WORD:
		for (uint32_t i = 0; i < value->size; i++)
			word |= (uint64_t)arena[value->value + i] << (8 * i);
		if (value->size < 8 && word >> (8 * value->size - 1))
			word |= ~(uint64_t)0 << (8 * value->size);
		return word;
	default:
		return value->value;
	}
}

static void store(const struct plan *plan, const struct wire_store *store)
{
	volatile uint8_t *arena = (volatile uint8_t *)WIRE_ARENA;
	uint64_t value = resolve(plan, &store->value);

	for (uint32_t i = 0; i < store->size; i++)
		arena[store->offset + i] = (uint8_t)(value >> (8 * i));
}

static void keep_outputs(const struct plan *plan, uint32_t call)
{
	uint8_t *into = plan->bytes;

	for (uint32_t i = 0; i < plan->program->outputs; i++) {
		const struct wire_output *output = &plan->outputs[i];

		if (output->call == call) {
			memcpy(into, (const uint8_t *)WIRE_ARENA + output->offset, output->length);
			plan->taken[i] = 1;
		}
		into += PADDED(output->length);
	}
}

/*
 * A child that ends at once has ended when the call returns, though nobody has
 * waited for it: else what is left, and what later calls find, is a matter of time.
 */
static void await_child(const struct plan *plan, const struct wire_call *call, int64_t pid)
{
	const uint64_t arguments[WIRE_ARGUMENTS] = {
		P_PID, (uint64_t)pid, 0, WEXITED | WNOWAIT | __WALL,
	};

	if (pid > 0 && plan->program->flags & WIRE_REPORT_STATE && call_forks(call) &&
	    !(plan->program->flags & WIRE_PAUSE_CHILDREN))
		call_make(SYS_waitid, WIRE_NATIVE, arguments, CHILD_ENDS);
}

static void make(const struct plan *plan, uint32_t index, const struct wire_store *stores)
{
	const struct wire_call *call = &plan->calls[index];
	bool alone = plan->program->roles < 2;
	uint64_t registers[WIRE_ARGUMENTS];
	int64_t value;

	for (uint32_t s = 0; s < call->stores; s++)
		store(plan, stores++);
	for (uint32_t a = 0; a < WIRE_ARGUMENTS; a++)
		registers[a] = a < call->arguments ? resolve(plan, &call->argument[a]) : 0;
	if (!alone)
		roles_note(plan, index, WIRE_BEGUN);
	if (call->abi == WIRE_DEED)
		value = roles_deed(plan, call->number, registers);
	else
#ifdef HOSTABI_ALTER
		value = alter_call(call, registers, roles_start(plan, call), plan->program);
#else
		value = call_make(call->number, call->abi, registers, roles_start(plan, call));
#endif
	if (alone) {
		*(volatile int64_t *)&plan->values[index] = value;
		await_child(plan, call, value);
	}
	keep_outputs(plan, index);
	/* Who waits for the call finds its outputs as well. */
	if (!alone)
		roles_note(plan, index, value);
}

void execute(const struct plan *plan, uint32_t role)
{
	const struct wire_store *next = plan->stores;
	const uint64_t none[WIRE_ARGUMENTS] = { 0 };

	for (uint32_t i = 0; i < plan->program->calls; i++) {
		if (plan->calls[i].role == role)
			make(plan, i, next);
		next += plan->calls[i].stores;
	}
	/* Other roles may still be at work. */
	if (plan->program->roles < 2 &&
	    plan->program->flags & (WIRE_REPORT_STATE | WIRE_REPORT_MOUNTS)) {
		struct report report = { .text = plan->report };

		state_tell(&report, plan->program->flags);
		*(volatile uint32_t *)&board->told = (uint32_t)report.length;
	}
	call_make(role ? SYS_exit : SYS_exit_group, WIRE_NATIVE, none, CHILD_ENDS);
	__builtin_trap();	/* a filter of the program's own may have refused to let it go */
}

static _Noreturn void refuse_arena(int error)
{
	board->refused = error;
	memcpy(board->step, "arena", 6);
	_exit(0);
}

/* The arena lies where it lies on every kernel, with nothing mapped beside it. */
static void map_arena(const struct plan *plan)
{
	size_t size = (plan->program->arena + 4095UL) & ~4095UL;
	void *at = mmap((void *)WIRE_ARENA, size ? size : 4096, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (at != (void *)WIRE_ARENA)
		refuse_arena(at == MAP_FAILED ? errno : EEXIST);
	memcpy(at, plan->data, plan->program->data);
}

static bool value_fits(const struct plan *plan, const struct wire_value *value)
{
	uint32_t arena = plan->program->arena;

	switch (value->kind) {
	case WIRE_NUMBER:
	case WIRE_POINTER:
		return true;
	case WIRE_RESULT:
		return value->value < plan->program->calls;
	case WIRE_WORD:
		return value->size >= 1 && value->size <= 8 && value->value <= arena &&
		       value->size <= arena - value->value;
	default:
		return false;
	}
}

static bool plan_fits(const struct plan *plan)
{
	const struct wire_program *program = plan->program;
	uint32_t roles = program->roles ? program->roles : 1;
	uint64_t stores = 0;

	if (roles > WIRE_ROLES)
		return false;
	for (uint32_t i = 0; i < program->calls; i++) {
		const struct wire_call *call = &plan->calls[i];

		stores += call->stores;
		if (call->arguments > WIRE_ARGUMENTS || call->abi > WIRE_DEED)
			return false;
		if (call->role >= roles || call->starts >= roles)
			return false;
		for (uint32_t a = 0; a < call->arguments; a++)
			if (!value_fits(plan, &call->argument[a]))
				return false;
	}
	if (stores != program->stores)
		return false;
	for (uint32_t i = 0; i < program->stores; i++) {
		const struct wire_store *store = &plan->stores[i];

		if (store->size > 8 || !value_fits(plan, &store->value) ||
		    (uint64_t)store->offset + store->size > program->arena)
			return false;
	}
	for (uint32_t i = 0; i < program->outputs; i++) {
		const struct wire_output *output = &plan->outputs[i];

		if (output->call >= program->calls ||
		    (uint64_t)output->offset + output->length > program->arena)
			return false;
	}
	return true;
}

/* Takes one program off the request and lays out its results on the board. */
int plan_read(struct cursor *cursor, struct plan *plan)
{
	const struct wire_program *program = take(cursor, sizeof(*program));
	size_t used;

	plan->program = program;
	if (!program || program->data > program->arena || program->arena > WIRE_ARENA_LIMIT)
		return -EBADMSG;
	plan->calls = take(cursor, (size_t)program->calls * sizeof(*plan->calls));
	plan->stores = take(cursor, (size_t)program->stores * sizeof(*plan->stores));
	plan->outputs = take(cursor, (size_t)program->outputs * sizeof(*plan->outputs));
	plan->data = take_padded(cursor, program->data);
	if (!plan->calls || !plan->stores || !plan->outputs || !plan->data || !plan_fits(plan))
		return -EBADMSG;
	plan->values = (int64_t *)board->room;
	plan->taken = (uint32_t *)(board->room + program->calls * sizeof(int64_t));
	used = program->calls * sizeof(int64_t) + PADDED(program->outputs * sizeof(uint32_t));
	plan->tasks = (char(*)[32])(board->room + used);
	used += program->roles * sizeof(*plan->tasks);
	plan->bytes = board->room + used;
	for (uint32_t i = 0; i < program->outputs && used <= WIRE_LIMIT; i++)
		used += PADDED(plan->outputs[i].length);
	if (used > WIRE_LIMIT)
		return -E2BIG;
	plan->report = board->room + used;
	plan->used = sizeof(*board) + used;
	return 0;
}

static void plan_clear(const struct plan *plan)
{
	memset(board->room, 0, (size_t)(plan->bytes - board->room));
	for (uint32_t i = 0; i < plan->program->calls; i++)
		plan->values[i] = WIRE_UNMADE;
}

/* How many values there are up to that of the last call that was made. */
static uint32_t made(const struct plan *plan)
{
	uint32_t count = plan->program->calls;

	while (count && plan->values[count - 1] == WIRE_UNMADE)
		count--;
	return count;
}

/* The text of the program itself, then that of its folder, which is still as it was left. */
static int report_answer(const struct plan *plan, const struct wire_sandbox *box,
			 struct wire_ran *ran, struct answer *answer)
{
	struct report report = { .text = plan->report, .length = board->told };

	if (!(plan->program->flags & WIRE_REPORT_STATE) || ran->end == WIRE_REFUSED ||
	    ran->end == WIRE_TIMED_OUT)
		return 0;
	if (report.length > REPORT_LIMIT)
		report.length = REPORT_LIMIT;
	tree_tell(&report, scratch_folder(box->scratch));
	ran->state = (uint32_t)report.length;
	return answer_bytes(answer, report.text, report.length) || answer_pad(answer) ? -E2BIG : 0;
}

/* The board was in the program's reach, so its numbers are bounded again here. */
static int plan_answer(const struct plan *plan, const struct wire_sandbox *box,
		       const struct wire_ran *result, struct answer *answer)
{
	uint32_t outputs = plan->program->outputs;
	struct wire_ran *ran = answer_room(answer, sizeof(*ran));
	const uint8_t *from = plan->bytes;
	uint32_t *taken;

	if (!ran)
		return -E2BIG;
	*ran = *result;
	ran->values = made(plan);
	ran->outputs = outputs;
	if (answer_bytes(answer, plan->values, ran->values * sizeof(int64_t)))
		return -E2BIG;
	taken = answer_room(answer, outputs * sizeof(uint32_t));
	if (!taken || answer_pad(answer))
		return -E2BIG;
	for (uint32_t i = 0; i < outputs; i++) {
		uint32_t length = plan->outputs[i].length;

		taken[i] = plan->taken[i] == 1;
		if (taken[i] && (answer_bytes(answer, from, length) || answer_pad(answer)))
			return -E2BIG;
		from += PADDED(length);
	}
	return report_answer(plan, box, ran, answer);
}

static int run_one(const struct wire_sandbox *box, const void *filter, struct cursor *cursor,
		   struct answer *answer)
{
	struct wire_ran ran = { 0 };
	size_t start = cursor->at;
	struct plan plan;
	int error;
	pid_t pid;

	board_clear();
	error = plan_read(cursor, &plan);
	if (error)
		return answer_error(answer, error, "program");
	plan_clear(&plan);
	if (plan.program->roles > 1)
		roles_prepare(&plan, cursor->start + start, cursor->at - start);
	pid = sandbox_fork(box, filter);
	if (pid == 0) {
		if (plan.program->roles < 2)
			map_arena(&plan);
		else if (!roles_enter(&plan, 0))
			refuse_arena(errno);
		execute(&plan, 0);
	}
	sandbox_end(box, pid, &ran);
	error = plan_answer(&plan, box, &ran, answer);
	scratch_drop(box->scratch);
	return error ? answer_error(answer, error, "answers of the programs") : 0;
}

int program_run(struct cursor *cursor, struct answer *answer)
{
	const struct wire_run *run = take(cursor, sizeof(*run));
	const void *filter = run ? take_padded(cursor, run->sandbox.filter) : NULL;
	int error = 0;

	if (!filter)
		return answer_error(answer, -EBADMSG, "run request");
	family_keep();
	for (uint32_t i = 0; i < run->programs && !error; i++)
		error = run_one(&run->sandbox, filter, cursor, answer);
	return error;
}
