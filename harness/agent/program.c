/* Programs: short lists of system calls, each list in a child of its own. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

/* One program as it lies in the request, and where its results go on the board. */
struct plan {
	const struct wire_program *program;
	const struct wire_call *calls;
	const struct wire_store *stores;
	const struct wire_output *outputs;
	const uint8_t *data;
	int64_t *values;
	uint32_t *taken;
	uint8_t *bytes;
};

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

static _Noreturn void execute(const struct plan *plan)
{
	const struct wire_store *next = plan->stores;
	bool pause = plan->program->flags & WIRE_PAUSE_CHILDREN;
	uint64_t registers[WIRE_ARGUMENTS];

	for (uint32_t i = 0; i < plan->program->calls; i++) {
		const struct wire_call *call = &plan->calls[i];

		for (uint32_t s = 0; s < call->stores; s++)
			store(plan, next++);
		for (uint32_t a = 0; a < WIRE_ARGUMENTS; a++)
			registers[a] = a < call->arguments ? resolve(plan, &call->argument[a]) : 0;
		plan->values[i] = call_make(call->number, call->abi, registers, pause);
		*(volatile uint32_t *)&board->done = i + 1;
		keep_outputs(plan, i);
	}
	memset(registers, 0, sizeof(registers));
	call_make(SYS_exit_group, WIRE_NATIVE, registers, false);
	__builtin_trap();	/* a filter of the program's own may have refused to let it go */
}

/* The arena lies where it lies on every kernel, with nothing mapped beside it. */
static void map_arena(const struct plan *plan)
{
	size_t size = (plan->program->arena + 4095UL) & ~4095UL;
	void *at = mmap((void *)WIRE_ARENA, size ? size : 4096, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (at != (void *)WIRE_ARENA) {
		board->refused = at == MAP_FAILED ? errno : EEXIST;
		memcpy(board->step, "arena", 6);
		_exit(0);
	}
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
	uint64_t stores = 0;

	for (uint32_t i = 0; i < program->calls; i++) {
		const struct wire_call *call = &plan->calls[i];

		stores += call->stores;
		if (call->arguments > WIRE_ARGUMENTS || call->abi > WIRE_IA32)
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
static int plan_read(struct cursor *cursor, struct plan *plan)
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
	plan->bytes = board->room + used;
	for (uint32_t i = 0; i < program->outputs && used <= WIRE_LIMIT; i++)
		used += PADDED(plan->outputs[i].length);
	if (used > WIRE_LIMIT)
		return -E2BIG;
	memset(board->room, 0, (size_t)(plan->bytes - board->room));
	return 0;
}

/* The board was in the program's reach, so its numbers are bounded again here. */
static int plan_answer(const struct plan *plan, const struct wire_ran *result,
		       struct answer *answer)
{
	uint32_t calls = plan->program->calls, outputs = plan->program->outputs;
	struct wire_ran *ran = answer_room(answer, sizeof(*ran));
	const uint8_t *from = plan->bytes;
	uint32_t *taken;

	if (!ran)
		return -E2BIG;
	*ran = *result;
	ran->values = board->done < calls ? board->done : calls;
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
	return 0;
}

static int run_one(const struct wire_sandbox *box, const void *filter, struct cursor *cursor,
		   struct answer *answer)
{
	struct wire_ran ran = { 0 };
	struct plan plan;
	int error;
	pid_t pid;

	board_clear();
	error = plan_read(cursor, &plan);
	if (error)
		return answer_error(answer, error, "program");
	pid = sandbox_fork(box, filter);
	if (pid == 0) {
		map_arena(&plan);
		execute(&plan);
	}
	sandbox_end(box, pid, &ran);
	error = plan_answer(&plan, &ran, answer);
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
