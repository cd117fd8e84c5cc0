//! A client of the API, as small as the commands need: one request on one connection, to a port or a Unix socket.

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_PORT: u16 = 80;

/// Where the API is and who asks.
#[derive(Debug, Args)]
pub(crate) struct Client {
    /// The node's API: http://host:port, or unix:/path
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Name and password, where the API asks for them; or in the environment as SYNC_NODE_USER
    #[arg(long, value_name = "NAME:PASSWORD")]
    user: Option<String>,
}

/// An answer: its status and its body, null if it has none.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

/// The task that drives a connection.
type Connection = JoinHandle<hyper::Result<()>>;

impl Answer {
    async fn of(response: Response<Incoming>) -> Result<Self> {
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        let body =
            if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap_or_default() };
        Ok(Self { status, body })
    }

    /// The body of an answer that is a success; the error of one that is not.
    pub(crate) fn success(self) -> Result<Value> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        match self.body["error"]["text"].as_str() {
            Some(text) => bail!("the node refused ({}): {text}", self.status.as_u16()),
            None => bail!("the node answered {}", self.status),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Client {
    /// Hands the body of an answer that is a success to `write`, part by part; answers the value of a header field, if it is there.
    pub(crate) fn download(
        &self,
        path: &str,
        header: &str,
        write: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Option<String>> {
        let no_answer = || format!("no answer from {} within {TIMEOUT:?}", self.url);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let answer =
                timeout(TIMEOUT, self.send(Method::GET, path, None)).await.with_context(no_answer)?;
            let (response, connection) = answer.with_context(|| format!("no answer from {}", self.url))?;
            if !response.status().is_success() {
                let answer = timeout(TIMEOUT, Answer::of(response)).await.with_context(no_answer)??;
                return answer.success().map(|_| None);
            }
            let value =
                response.headers().get(header).and_then(|value| value.to_str().ok()).map(str::to_owned);
            let mut body = response.into_body();
            while let Some(frame) = timeout(TIMEOUT, body.frame()).await.with_context(no_answer)? {
                if let Some(part) = frame.context("the answer broke off")?.data_ref() {
                    write(part)?;
                }
            }
            connection.abort();
            Ok(value)
        })
    }

    /// Sends one request and waits for its answer.
    pub(crate) fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match timeout(TIMEOUT, self.exchange(method, path, body)).await {
                Ok(answer) => answer.with_context(|| format!("no answer from {}", self.url)),
                Err(_) => bail!("no answer from {} within {TIMEOUT:?}", self.url),
            }
        })
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let (response, connection) = self.send(method, path, body).await?;
        let answer = Answer::of(response).await;
        connection.abort();
        answer
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(Response<Incoming>, Connection)> {
        let (stream, host) = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(HOST, host);
        if let Some(user) = self.user.clone().or_else(|| std::env::var("SYNC_NODE_USER").ok()) {
            request = request.header(AUTHORIZATION, format!("Basic {}", BASE64.encode(user)));
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let response = sender.send_request(request.body(Full::new(body))?).await?;
        Ok((response, connection))
    }

    async fn connect(&self) -> Result<(Box<dyn Stream>, String)> {
        if let Some(path) = self.url.strip_prefix("unix:") {
            return Ok((Box::new(UnixStream::connect(path).await?), "localhost".to_owned()));
        }
        let authority = self.url.strip_prefix("http://").unwrap_or(&self.url).trim_end_matches('/');
        ensure!(
            !authority.is_empty() && !authority.contains('/'),
            "{:?} is not where an API is; write http://host:port or unix:/path",
            self.url
        );
        let has_port = authority.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok());
        let address = if has_port { authority.to_owned() } else { format!("{authority}:{DEFAULT_PORT}") };
        Ok((Box::new(TcpStream::connect(&address).await?), authority.to_owned()))
    }
}
