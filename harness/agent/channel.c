/* Frames in and out of the host's channel. */
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "agent.h"

/*
 * Edge-triggered: a virtio port whose host end is not connected reads as empty
 * and polls as hung up and readable all the time, but wakes its waiters when
 * the host comes back. Who waits has always tried to read or write before.
 */
static int events = -1;

void channel_open(void)
{
	struct epoll_event channel = { .events = EPOLLIN | EPOLLOUT | EPOLLET };
	struct epoll_event signals = { .events = EPOLLIN };

	events = epoll_create1(EPOLL_CLOEXEC);
	if (events < 0 || epoll_ctl(events, EPOLL_CTL_ADD, agent.channel, &channel) < 0 ||
	    epoll_ctl(events, EPOLL_CTL_ADD, agent.signals, &signals) < 0)
		die("epoll");
}

/* Sleeps until the channel may have changed; reaps children meanwhile. */
static void wait_event(void)
{
	struct epoll_event event;

	if (epoll_wait(events, &event, 1, -1) < 0 && errno != EINTR)
		die("epoll_wait");
	family_reap();
}

/*
 * A read of nothing or a write that is refused need not mean that the host is
 * gone: its bytes can arrive before the news that it is there. PID 1 waits.
 */
static bool over(ssize_t n)
{
	if (n < 0 && errno == EINTR)
		return false;
	if (!agent.pid1 && !(n < 0 && errno == EAGAIN))
		return true;
	wait_event();
	return false;
}

static bool receive(void *into, size_t size)
{
	uint8_t *bytes = into;

	while (size) {
		ssize_t n = read(agent.channel, bytes, size);

		if (n > 0) {
			bytes += n;
			size -= (size_t)n;
		} else if (over(n)) {
			return false;
		}
	}
	return true;
}

bool channel_receive(struct wire_frame *frame, uint8_t *payload)
{
	if (!receive(frame, sizeof(*frame)))
		return false;
	if (frame->magic != WIRE_MAGIC || frame->length > WIRE_LIMIT) {
		errno = EPROTO;
		die("a frame from the host that is none");
	}
	return receive(payload, frame->length);
}

bool channel_send(const void *from, size_t size)
{
	const uint8_t *bytes = from;

	while (size) {
		ssize_t n = write(agent.channel, bytes, size);

		if (n > 0) {
			bytes += n;
			size -= (size_t)n;
		} else if (over(n)) {
			return false;
		}
	}
	return true;
}
