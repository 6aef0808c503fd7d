/* What the agent's parts offer each other. Functions return 0 or a negative errno. */
#ifndef HOSTABI_AGENT_H
#define HOSTABI_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "protocol.h"

#define PADDED(n) (((size_t)(n) + 7) & ~(size_t)7)

/* NUL-terminated texts for hello; what is too much is dropped. */
struct notes {
	char text[4096];
	size_t length;
};
void note(struct notes *notes, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What this agent is, set once in main.c or init.c. */
struct agent {
	bool pid1;
	int channel;		/* the host's end, non-blocking */
	int signals;		/* signalfd that reports SIGCHLD */
	uint64_t features;
	const char *scratch;	/* private folder of an agent that is not PID 1 */
	int patience;		/* milliseconds to wait for a device of the machine */
	struct notes missing;	/* paths of the manifest that did not arrive */
	struct notes failed;	/* what /hostabi/boot demands and the kernel did not do */
};
extern struct agent agent;

/* payload.c: a request taken apart from front to back; nothing is copied. */
struct cursor {
	const uint8_t *start;
	size_t length;
	size_t at;
};
/* NULL when fewer than size bytes are left. */
const void *take(struct cursor *cursor, size_t size);
/* Like take, then skips to the next multiple of 8. */
const void *take_padded(struct cursor *cursor, size_t size);
/* A NUL-terminated string of exactly size bytes, or NULL. */
const char *take_string(struct cursor *cursor, size_t size);

/* The answer under way; grows in a fixed buffer of WIRE_LIMIT bytes. */
struct answer {
	uint8_t *bytes;
	size_t length;
};
/* Room for size bytes, zeroed, or NULL when the answer would be too long. */
void *answer_room(struct answer *answer, size_t size);
int answer_bytes(struct answer *answer, const void *bytes, size_t size);
int answer_pad(struct answer *answer);
/* Sets the text that goes with an error; returns error. */
int answer_error(struct answer *answer, int error, const char *what);

/* channel.c */
void channel_open(void);
/* Both are false when the host is gone for good. */
bool channel_receive(struct wire_frame *frame, uint8_t *payload);
bool channel_send(const void *bytes, size_t size);

/* serve.c */
_Noreturn void serve(void);

/* family.c: processes the agent started or inherited */
int64_t now_ms(void);
void family_reap(void);
/* Remember the children there are now: they are nobody's leftovers. */
void family_keep(void);
/* Kill and reap every child that is not kept. */
void family_kill(void);
/* As family_kill, and what was kept too. */
void family_kill_all(void);
/* true when pid ended before the deadline; it is then reaped. */
bool family_wait(pid_t pid, int64_t deadline, int *status);

/* scratch.c */
int scratch_make(uint32_t kind, uid_t uid, gid_t gid, const char **path);
void scratch_drop(uint32_t kind);
/* The folder that the last program of this kind was given. */
const char *scratch_folder(uint32_t kind);
void scratch_reset(void);
int remove_tree(const char *path);

/* sandbox.c */
/* Memory shared between the agent and the child; its start reports on the sandbox. */
struct board {
	uint32_t gate;		/* futex: opens when the identity maps are written */
	int32_t refused;	/* errno */
	char step[32];
	uint32_t done;		/* bytes that a walk has found */
	uint32_t keep;		/* leave the record's descriptor open in the child */
	uint32_t waiting;	/* roles that wait for another's call */
	uint32_t told;		/* bytes of the report */
	uint64_t used;		/* bytes of the board that a program with roles needs */
	uint64_t request;	/* bytes of its request */
	uint8_t room[];
};
#define BOARD_SIZE (WIRE_LIMIT + 65536)
extern struct board *board;
void board_clear(void);
/*
 * Forks a child in the sandbox. Returns its pid to the agent; 0 in the child
 * once all is set up; a negative errno, with board->step set, when refused.
 */
pid_t sandbox_fork(const struct wire_sandbox *box, const void *filter);
/* Waits for the child, ends its family, says how it went; its folder is still there. */
void sandbox_end(const struct wire_sandbox *box, pid_t pid, struct wire_ran *ran);
/* Makes 0, 1 and 2 a /dev/null of their own and closes all others, but for the record if kept. */
int plain_descriptors(bool keep);

/*
 * call.c: one system call. What it forks ends at once with status 0, waits to
 * be killed, or, for any greater number, is the role whose start lies there.
 */
enum child {
	CHILD_ENDS = 1,
	CHILD_PAUSES = 2
};
int64_t call_make(int64_t number, uint32_t abi, const uint64_t *arguments, uintptr_t child);
bool call_forks(const struct wire_call *call);

/* roles.c: the board and what lies behind it; and the agent executed by a program of its own */
void record_make(void);
void record_forget(void);
_Noreturn void roles_resume(uint32_t role);

/* report.c: text about what a program left; what is too long is cut off */
#define REPORT_LIMIT 32768
struct report {
	uint8_t *text;
	size_t length;
};
void report_char(struct report *report, char c);
void report_text(struct report *report, const char *text);
void report_number(struct report *report, int64_t value);
/* In octal after a 0, or in hexadecimal after 0x. */
void report_bits(struct report *report, uint64_t value, unsigned base);
void report_bytes(struct report *report, const void *bytes, size_t size);
/* state.c: what a program left in its process, told by that process; bits of wire_program_flag */
void state_tell(struct report *report, uint32_t wanted);
/* tree.c: what it left in its folder, which is gone afterwards when it was empty */
void tree_tell(struct report *report, const char *folder);


#ifdef HOSTABI_ALTER
/* alter.c: a call of a program as a kernel would make it that differs; for tests */
int alter_set(struct cursor *cursor, struct answer *answer);
int64_t alter_call(const struct wire_call *call, const uint64_t *registers, uintptr_t child,
		   const struct wire_program *program);
#endif

/* files.c: after ms a read or write that blocks gives up with EINTR; 0 ends that */
void patience(int ms);
/* In a child, whose signal handlers are gone. */
void forget_patience(void);
ssize_t read_bounded(int fd, uint8_t *into, size_t limit);

/* Requests */
int hello(struct answer *answer);
int program_run(struct cursor *cursor, struct answer *answer);
int command_run(struct cursor *cursor, struct answer *answer);
int file_read(struct cursor *cursor, struct answer *answer);
int file_write(struct cursor *cursor, struct answer *answer);
int walk(struct cursor *cursor, struct answer *answer);
int system_clock(struct cursor *cursor, struct answer *answer);
int system_shell(struct answer *answer);
int system_reset(void);
void system_power_off(void);

/* root.c: make tree the root of this process, in a mount namespace of its own */
int root_enter(const char *tree);

/* seal.c: a copy of the program that a tree names, and in its child the link to it in root */
int seal_tree(const char *tree);
int seal_place(const char *tree, const char *root);

/* init.c, boot.c, cgroup.c: PID 1 */
void init(void);
void boot_early(void);
void boot_late(void);
int open_port(const char *name, int64_t deadline);
int find_disk(const char *serial, int64_t deadline, char *device, size_t size);
int cgroup_mount(bool v1);

/* util.c */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* As say, but on the console too, where only errors are shown. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void die(const char *what);
ssize_t read_file(const char *path, char *buffer, size_t size);
int write_file(const char *path, const char *text);
int make_folder(const char *path, mode_t mode);
int mount_at(const char *type, const char *path, unsigned long flags, const char *data);

#endif
