package main

import (
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
)

// What systemd is told (sd_notify(3)), so that units which need the proxy start
// after it is ready and `systemctl status` says what it does. Without
// NOTIFY_SOCKET nothing is sent.

func (p *proxy) notifyReady() {
	p.notify(daemon.SdNotifyReady, status("serving on "+p.addresses.proxy))
}

// notifyReloading begins a reload; notifyReady or notifyKept ends it.
func (p *proxy) notifyReloading() {
	p.notify(daemon.SdNotifyReloading, daemon.SdNotifyMonotonicUsec())
}

// notifyKept ends a reload that came to nothing.
func (p *proxy) notifyKept(why error) {
	p.notify(daemon.SdNotifyReady, status("serving on "+p.addresses.proxy+" with the configuration before; the new one is not used: "+why.Error()))
}

func (p *proxy) notifyStopping() {
	p.notify(daemon.SdNotifyStopping, status("waiting for requests to end"))
}

// status makes a line of what people are to read: the protocol has one
// assignment a line.
func status(text string) string {
	return "STATUS=" + strings.Join(strings.Fields(text), " ")
}

func (p *proxy) notify(assignments ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(assignments, "\n")); err != nil {
		p.log.Warn("systemd was not told", zap.String("what", assignments[0]), zap.Error(err))
	}
}
