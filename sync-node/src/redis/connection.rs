//! The door's server: one task for each connection, which feeds a [`Session`] with what it reads and writes its answers, all those at once that belong to
//! what was read at once.

use super::reply::Replies;
use super::request::Parser;
use super::session::{Attempt, Session, Step};
use super::walk::Walk;
use super::{Inner, Redis};
use crate::Listener;
use crate::api::users::UsersFile;
use crate::door::{Client, Connection};
use bytes::{Buf, BytesMut};
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use sync_store::Time;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

/// Room that a read has at least.
const READ_MIN: usize = 4 << 10;
/// Memory that a connection keeps while it is silent, for what it reads and for what it writes each.
const KEPT: usize = 16 << 10;
/// Answers are written at the latest when there are so many bytes of them, whatever else was asked for in one go.
const WRITE_AT: usize = 64 << 10;
/// How long a client may take to say who it is, where that is asked for.
const AUTH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stop waits for answers that are under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Further ahead than any process lives.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);

const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";
const NOT_ALLOWED: &[u8] = b"-NOPERM access is not allowed from this address\r\n";

impl Redis {
    /// Serves clients until `stop` is ready, and then gives answers that are under way a few seconds to end.
    pub async fn serve(self, listener: Listener, stop: impl Future<Output = ()>) {
        let inner = self.inner;
        let room = Arc::new(Semaphore::new(inner.connections));
        let (stopping, stopped) = watch::channel(false);
        let mut stop = pin!(stop);
        loop {
            let (mut stream, client) = tokio::select! {
                accepted = listener.next() => accepted,
                () = &mut stop => break,
            };
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                inner.door.counters().dropped_connection();
                debug!(%client, limit = inner.connections, "closed a connection of Redis: too many are open");
                // A socket that nobody has written to takes so much at once.
                let _ = stream.write_all(TOO_MANY).await;
                continue;
            };
            let (inner, stopped) = (Arc::clone(&inner), stopped.clone());
            tokio::spawn(async move {
                let _place = place;
                let _counted = inner.door.counters().connection();
                if let Err(error) = attend(&inner, stream, client, stopped).await {
                    debug!(%client, %error, "a connection of Redis ended");
                }
            });
        }
        drop(stopped);
        stopping.send_replace(true);
        if timeout(STOP_TIMEOUT, stopping.closed()).await.is_err() {
            debug!("answers to clients of Redis were cut short");
        }
    }
}

/// Serves one client until it goes, or has to.
async fn attend(
    redis: &Arc<Inner>,
    mut stream: Connection,
    client: Client,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let Some(mut session) = Session::new(Arc::clone(redis), client) else {
        redis.door.counters().answered(0, 1);
        return stream.write_all(NOT_ALLOWED).await;
    };
    let came = Instant::now();
    let mut heard = came;
    let mut stopped = pin!(stopped.wait_for(|stopped| *stopped));
    // Not set anew for each request: when it is over, it is looked at how much longer it may last.
    let mut silence = pin!(sleep_until(came));
    let (mut input, mut parser, mut replies) =
        (BytesMut::with_capacity(KEPT), Parser::default(), Replies::default());
    loop {
        input.reserve(READ_MIN);
        tokio::select! {
            biased;
            read = stream.read_buf(&mut input) => if read? == 0 { return Ok(()) },
            _ = &mut stopped => return Ok(()),
            () = &mut silence => {
                let until = if session.is_known() {
                    heard + redis.timeout.unwrap_or(FOREVER)
                } else {
                    came + AUTH_TIMEOUT
                };
                if until <= Instant::now() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                silence.as_mut().reset(until);
                continue;
            }
        }
        heard = Instant::now();
        let mut turn = Turn { redis, session: &mut session, stream: &mut stream, replies: &mut replies };
        if !turn.answer(&mut input, &mut parser).await? {
            return stream.shutdown().await;
        }
        if input.is_empty() && input.capacity() > KEPT {
            input = BytesMut::with_capacity(KEPT);
        }
    }
}

/// What is needed to answer what was read.
struct Turn<'t> {
    redis: &'t Arc<Inner>,
    session: &'t mut Session,
    stream: &'t mut Connection,
    replies: &'t mut Replies,
}

impl Turn<'_> {
    /// Answers every request that is whole. False: the connection is to be closed.
    async fn answer(&mut self, input: &mut BytesMut, parser: &mut Parser) -> io::Result<bool> {
        let mut goes_on = true;
        let mut requests = 0;
        // One reading of the clock for all: they came at the same time.
        let mut now = self.redis.door.node().now();
        while goes_on {
            let length = match parser.read(input, self.session.bounds()) {
                Ok(Some(length)) => length,
                Ok(None) => break,
                Err(malformed) => {
                    self.replies.error(format_args!("ERR Protocol error: {malformed}"));
                    goes_on = false;
                    break;
                }
            };
            let begin = self.replies.len();
            let step = self.session.execute(parser.request(input), now, self.replies);
            input.advance(length);
            parser.next();
            requests += 1;
            match step {
                Step::Next => {}
                Step::Close => goes_on = false,
                step => now = self.wait(step, begin).await,
            }
            if self.replies.len() >= WRITE_AT {
                self.write().await?;
            }
        }
        self.redis.door.counters().answered(requests, self.replies.take_errors());
        self.write().await?;
        Ok(goes_on)
    }

    async fn write(&mut self) -> io::Result<()> {
        let written = self.stream.write_all(self.replies.bytes()).await;
        self.replies.clear(KEPT);
        written
    }

    /// Does what a request has left to be waited for. `begin` is where its answer begins. Answers how late it is then.
    async fn wait(&mut self, step: Step, begin: usize) -> Time {
        match step {
            Step::Next | Step::Close => {}
            Step::Verify(users, attempt) => self.verify(users, attempt).await,
            Step::Save(zones) => self.save(&zones, begin).await,
            Step::Walk(walk) => self.walk(walk, begin).await,
        }
        self.redis.door.node().now()
    }

    async fn verify(&mut self, users: UsersFile, attempt: Attempt) {
        let (user, password) = (attempt.user.clone(), attempt.password.clone());
        let is_right = users.remembers(&user, &password)
            || self.redis.door.heavy(move || users.verify(&user, &password)).await.unwrap_or(false);
        self.session.verified(attempt, is_right, self.replies);
    }

    async fn save(&mut self, zones: &[String], begin: usize) {
        for zone in zones {
            if let Err(error) = self.redis.door.node().saved(zone).await {
                self.replies.take_back(begin);
                // What clients take for a server that cannot write.
                self.replies.error(format_args!(
                    "MISCONF the zone is changed, but not saved: {error}; it will be as soon as that is possible"
                ));
                return;
            }
        }
    }

    async fn walk(&mut self, walk: Walk, begin: usize) {
        let kept = match &walk {
            Walk::Scan(..) => Vec::new(),
            Walk::Flush(number) => self.redis.databases.get(*number).kept(),
        };
        let (redis, protocol) = (Arc::clone(self.redis), self.replies.protocol);
        match self.redis.door.heavy(move || walk.run(&redis, protocol)).await {
            Some(answer) => self.replies.append(answer),
            None => self.replies.error("ERR internal error"),
        }
        self.save(&kept, begin).await;
    }
}
