//! Waiting for less than a millisecond, to which the timers of the runtime are rounded up: by a timer of the operating system, which the
//! runtime waits for as it does for a socket. Where there is none, by the runtime.

use std::time::Duration;

use tokio::time::sleep;

#[cfg(target_os = "linux")]
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;
#[cfg(target_os = "linux")]
use tokio::io::unix::AsyncFd;

/// A timer of one task.
#[derive(Debug)]
pub(super) struct Pause {
    /// `None` if descriptors have run out: then pauses are longer.
    #[cfg(target_os = "linux")]
    timer: Option<AsyncFd<OwnedFd>>,
}

impl Pause {
    #[cfg(target_os = "linux")]
    #[expect(
        deprecated,
        reason = "what it warns of are files that close while they are waited for, which an OwnedFd does not"
    )]
    pub(super) fn new() -> Self {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).ok();
        Self { timer: timer.and_then(|timer| AsyncFd::new(timer).ok()) }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn new() -> Self {
        Self {}
    }

    /// Resolves after so long.
    pub(super) async fn wait(&mut self, duration: Duration) {
        #[cfg(target_os = "linux")]
        if let Some(timer) = &mut self.timer
            && expire(timer, duration).await.is_ok()
        {
            return;
        }
        sleep(duration).await;
    }
}

#[cfg(target_os = "linux")]
async fn expire(timer: &mut AsyncFd<OwnedFd>, duration: Duration) -> std::io::Result<()> {
    let never = Timespec { tv_sec: 0, tv_nsec: 0 };
    // A time of 0 would disarm it.
    let it_value =
        Timespec::try_from(duration.max(Duration::from_nanos(1))).map_err(std::io::Error::other)?;
    timerfd_settime(
        timer.get_ref(),
        TimerfdTimerFlags::empty(),
        &Itimerspec { it_interval: never, it_value },
    )?;
    loop {
        let mut ready = timer.readable_mut().await?;
        // The number of times that it has expired. There is none if the readiness was that of an earlier wait.
        let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0; 8])?));
        if let Ok(read) = read {
            return read.map(drop);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test]
    async fn a_pause_is_not_shorter_than_asked_for_whatever_came_before() {
        let mut pause = Pause::new();
        for micros in [0, 1, 300, 3_000, 50] {
            let duration = Duration::from_micros(micros);
            let until = Instant::now() + duration;
            pause.wait(duration).await;
            assert!(Instant::now() >= until, "{duration:?}");
            // Given up half-way, as when a task ends.
            let given_up =
                tokio::time::timeout(Duration::from_millis(1), pause.wait(Duration::from_secs(60)));
            given_up.await.expect_err("it was to last");
        }
    }
}
