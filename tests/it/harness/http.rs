//! A small HTTP/1.1 server and client on loopback.
//!
//! Tests must be able to end a connection at an exact place: before the server acted, or after it acted and before
//! a single byte of the answer. Server frameworks do not offer that; this does, in few lines.

use std::fmt::Write;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::sync;

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        // Every answer of AWS says what time it is there.
        let date = chrono::Utc::now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let headers = vec![("content-type".into(), content_type.into()), ("date".into(), date)];
        Self { status, headers, body: body.into() }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

pub(crate) enum Reply {
    Answer(Answer),
    /// The same, later.
    Late(std::time::Duration, Answer),
    /// The answer's body again and again, without an end.
    Endless(Answer),
    /// The answer, and blanks behind its body until it is as long as this: the same to whoever reads all of it.
    Long(Answer, usize),
    /// The head promises the whole body; half of it comes, then the connection ends.
    Short(Answer),
    /// End the connection without a byte.
    Cut,
    /// The same, and from now on nobody listens: connections are refused until [`Server::listen`].
    Leave,
}

pub(crate) type Handler = Arc<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send + Sync>;

pub(crate) fn handler<F, R>(f: F) -> Handler
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: Future<Output = Reply> + Send + 'static,
{
    Arc::new(move |request| Box::pin(f(request)))
}

/// Listens on a free loopback port until it is dropped; its connections end with it.
pub(crate) struct Server {
    pub address: SocketAddr,
    accepting: tokio::task::JoinHandle<()>,
    listening: watch::Sender<bool>,
}

impl Server {
    #[allow(clippy::unused_async)] // it spawns: where there is no runtime it cannot be called
    pub(crate) async fn start(handler: Handler) -> Self {
        // It never listens: while nobody does, it keeps the port from becoming somebody else's.
        let reserved = shared_socket("127.0.0.1:0".parse().expect("an address"));
        let address = reserved.local_addr().expect("the port's number");
        let mut listener = shared_socket(address).listen(1024).expect("the port is ours");
        let (listening, mut wanted) = watch::channel(true);
        let leave = listening.clone();
        let accepting = tokio::spawn(async move {
            let _reserved = reserved;
            loop {
                let mut connections = JoinSet::new();
                loop {
                    tokio::select! {
                        accepted = listener.accept() => {
                            let Ok((stream, _)) = accepted else { return };
                            connections.spawn(serve_connection(stream, handler.clone(), leave.clone()));
                            while connections.try_join_next().is_some() {}
                        }
                        _ = wanted.wait_for(|wanted| !wanted) => break,
                    }
                }
                drop(listener);
                connections.shutdown().await;
                let _ = wanted.wait_for(|wanted| *wanted).await;
                listener = shared_socket(address).listen(1024).expect("the port is ours");
            }
        });
        Self { address, accepting, listening }
    }

    /// Listens again after [`Reply::Leave`].
    pub(crate) async fn listen(&self) {
        self.listening.send_replace(true);
        while TcpStream::connect(self.address).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A socket that shares its port with others of its kind; only those that listen get connections.
fn shared_socket(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseport(true).expect("a port may be shared");
    socket.bind(address).expect("a free loopback port");
    socket
}

async fn serve_connection(stream: TcpStream, handler: Handler, listening: watch::Sender<bool>) {
    let _ = stream.set_nodelay(true);
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    while let Ok(Some(request)) = read_request(&mut read).await {
        // An answer to HEAD has the length of the body that does not come.
        let is_head = request.method == "HEAD";
        let mut reply = handler(request).await;
        if let Reply::Late(pause, answer) = reply {
            tokio::time::sleep(pause).await;
            reply = Reply::Answer(answer);
        }
        match reply {
            Reply::Cut | Reply::Late(..) => return,
            Reply::Leave => {
                listening.send_replace(false);
                return;
            }
            Reply::Endless(answer) => {
                let head = format!("HTTP/1.1 {} -\r\ntransfer-encoding: chunked\r\n\r\n", answer.status);
                let mut bytes = head.into_bytes();
                while write.write_all(&bytes).await.is_ok() {
                    bytes = format!("{:x}\r\n", answer.body.len()).into_bytes();
                    bytes.extend_from_slice(&answer.body);
                    bytes.extend_from_slice(b"\r\n");
                }
                return;
            }
            Reply::Long(answer, length) => {
                let mut bytes = head(&answer, length);
                bytes.extend_from_slice(&answer.body);
                let mut missing = length.saturating_sub(answer.body.len());
                while write.write_all(&bytes).await.is_ok() {
                    if missing == 0 {
                        break;
                    }
                    bytes = vec![b' '; missing.min(1 << 16)];
                    missing -= bytes.len();
                }
                if missing > 0 {
                    return;
                }
            }
            Reply::Short(answer) => {
                let mut bytes = head(&answer, answer.body.len());
                bytes.extend_from_slice(&answer.body[..answer.body.len() / 2]);
                let _ = write.write_all(&bytes).await;
                return;
            }
            Reply::Answer(answer) => {
                let mut bytes = head(&answer, answer.body.len());
                if !is_head {
                    bytes.extend_from_slice(&answer.body);
                }
                if write.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn head(answer: &Answer, length: usize) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} -\r\ncontent-length: {length}\r\n", answer.status);
    for (name, value) in &answer.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}

async fn read_request<R: AsyncBufReadExt + Unpin>(read: &mut R) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if read.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut parts = line.split_whitespace();
    let method = parts.next().unwrap_or_default().to_owned();
    let path = parts.next().unwrap_or_default().to_owned();
    let headers = read_headers(read).await?;
    let body = read_body(read, &headers).await?.unwrap_or_default();
    Ok(Some(Request { method, path, headers, body }))
}

fn find<'a>(headers: &'a [(String, String)], wanted: &str) -> Option<&'a str> {
    headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
}

/// The body in chunks, or of the length that the headers say; nothing where they say neither.
async fn read_body<R: AsyncBufReadExt + Unpin>(
    read: &mut R,
    headers: &[(String, String)],
) -> std::io::Result<Option<Vec<u8>>> {
    if find(headers, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return read_chunks(read).await.map(Some);
    }
    let Some(length) = find(headers, "content-length").and_then(|value| value.parse().ok()) else { return Ok(None) };
    let mut body = vec![0; length];
    read.read_exact(&mut body).await?;
    Ok(Some(body))
}

async fn read_headers<R: AsyncBufReadExt + Unpin>(read: &mut R) -> std::io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if read.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(headers);
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
}

async fn read_chunks<R: AsyncBufReadExt + Unpin>(read: &mut R) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        read.read_line(&mut line).await?;
        let size = line.trim().split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).map_err(|_| std::io::ErrorKind::InvalidData)?;
        let mut chunk = vec![0; size];
        read.read_exact(&mut chunk).await?;
        body.extend_from_slice(&chunk);
        if size == 0 {
            read_headers(read).await?;
            return Ok(body);
        }
        let mut end = String::new();
        read.read_line(&mut end).await?;
    }
}

/// A server behind this one. Its connections are kept.
pub(crate) struct Upstream {
    address: SocketAddr,
    idle: Mutex<Vec<BufReader<TcpStream>>>,
}

impl Upstream {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, idle: Mutex::default() }
    }

    /// Sends `request` as it is.
    pub(crate) async fn forward(&self, request: &Request) -> std::io::Result<Answer> {
        let address = self.address;
        let mut head = format!("{} {} HTTP/1.1\r\nhost: {address}\r\n", request.method, request.path);
        for (name, value) in &request.headers {
            if !["host", "connection", "content-length", "transfer-encoding"].contains(&name.as_str()) {
                let _ = write!(head, "{name}: {value}\r\n");
            }
        }
        let _ = write!(head, "content-length: {}\r\n\r\n", request.body.len());
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&request.body);
        loop {
            let kept = sync(&self.idle).pop();
            let is_kept = kept.is_some();
            let mut stream = match kept {
                Some(stream) => stream,
                None => BufReader::new(TcpStream::connect(address).await?),
            };
            let mut status = String::new();
            let sent = stream.write_all(&bytes).await;
            if (sent.is_err() || stream.read_line(&mut status).await? == 0) && is_kept {
                continue; // it had ended meanwhile
            }
            sent?;
            let status = status.split_whitespace().nth(1).and_then(|s| s.parse().ok()).unwrap_or(599);
            let mut headers = read_headers(&mut stream).await?;
            let mut body = Vec::new();
            // The length in an answer to HEAD is that of a body that does not come.
            if request.method != "HEAD" {
                match read_body(&mut stream, &headers).await? {
                    Some(whole) => body = whole,
                    None => {
                        stream.read_to_end(&mut body).await?;
                    }
                }
            }
            if !find(&headers, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                sync(&self.idle).push(stream);
            }
            headers.retain(|(n, _)| !["connection", "content-length", "transfer-encoding"].contains(&n.as_str()));
            return Ok(Answer { status, headers, body });
        }
    }
}
