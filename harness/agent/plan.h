/* A program as the parts that run it see it: program.c reads and answers it, roles.c plays it. */
#ifndef HOSTABI_PLAN_H
#define HOSTABI_PLAN_H

#include "agent.h"

/* One program as it lies in the request, and where its results go on the board. */
struct plan {
	const struct wire_program *program;
	const struct wire_call *calls;
	const struct wire_store *stores;
	const struct wire_output *outputs;
	const uint8_t *data;
	int64_t *values;
	uint32_t *taken;
	char (*tasks)[32];	/* of each role, "PID/task/TID" in proc(5) */
	uint8_t *bytes;
	uint8_t *report;
	size_t used;		/* bytes of the board, its head included */
};

/* The file behind the board: then a copy of the program's request and the shared arena. */
#define RECORD_REQUEST BOARD_SIZE
#define RECORD_ARENA (RECORD_REQUEST + WIRE_LIMIT)
#define RECORD_SIZE (RECORD_ARENA + WIRE_ARENA_LIMIT)

/* program.c */
int plan_read(struct cursor *cursor, struct plan *plan);
/* Makes the calls of one role and ends. */
_Noreturn void execute(const struct plan *plan, uint32_t role);

/* roles.c */
/* In the agent, before the sandbox: what all roles of the plan share. */
void roles_prepare(const struct plan *plan, const void *request, size_t length);
/* In the sandbox, as a role: the arena and a stack for each. False: refused, errno says why. */
bool roles_enter(const struct plan *plan, uint32_t role);
/* What begins and what has returned is told to those who wait for it. */
void roles_note(const struct plan *plan, uint32_t call, int64_t value);
int64_t roles_deed(const struct plan *plan, int64_t number, const uint64_t *arguments);
/* Whom a call starts: for call_make. */
uintptr_t roles_start(const struct plan *plan, const struct wire_call *call);

#endif
