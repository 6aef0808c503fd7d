/* Frames in and out of the host's channel. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

/*
 * A virtio port whose host end is not connected polls as hung up all the
 * time, so it is looked at again after this long (ms). With a host connected
 * this wait never happens.
 */
#define RECONNECT_MS 20

/* Waits until the channel is ready for events; reaps children meanwhile. false: it is closed. */
static bool ready(short events)
{
	for (;;) {
		struct pollfd polled[2] = {
			{ .fd = agent.channel, .events = events },
			{ .fd = agent.signals, .events = POLLIN },
		};

		if (poll(polled, 2, -1) < 0 && errno != EINTR)
			die("poll of the channel");
		if (polled[1].revents)
			family_reap();
		if (polled[0].revents & events)
			return true;
		if (!(polled[0].revents & (POLLHUP | POLLERR | POLLNVAL)))
			continue;
		if (!agent.pid1)
			return false;
		poll(&polled[1], 1, RECONNECT_MS);
	}
}

bool channel_closed(void)
{
	struct pollfd polled = { .fd = agent.channel, .events = POLLIN };

	return !agent.pid1 && poll(&polled, 1, 0) > 0 && (polled.revents & POLLHUP);
}

static bool receive(void *into, size_t size)
{
	uint8_t *bytes = into;

	while (size) {
		ssize_t n = read(agent.channel, bytes, size);

		if (n > 0) {
			bytes += n;
			size -= (size_t)n;
		} else if (n == 0 && !agent.pid1) {
			return false;
		} else if (n < 0 && errno != EAGAIN && errno != EINTR && errno != EPIPE) {
			return false;
		} else if (!ready(POLLIN)) {
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
		} else if (n < 0 && errno == EPIPE && !agent.pid1) {
			return false;
		} else if (!ready(POLLOUT)) {
			return false;
		}
	}
	return true;
}
