use super::*;
use std::thread::JoinHandle;

const LARGE: usize = 300 << 10;

/// A server that answers each GET with `LARGE` bytes, and each PUT once it has read the body.
fn server() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut side = Side::new(&stream);
        while let Some(head) = side.head().unwrap() {
            let request = Request::parse(&head).unwrap();
            if request.waits {
                side.send(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
            }
            if let Body::Length(length) = request.body {
                let mut body = std::mem::take(&mut side.ahead);
                let left = length - body.len() as u64;
                side.stream.take(left).read_to_end(&mut body).unwrap();
                assert_eq!(body.len() as u64, length);
            }
            let (text, body) = match request.kind {
                Kind::Get => (format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"), vec![7; LARGE]),
                Kind::List => (
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
                    b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".to_vec(),
                ),
                Kind::Head | Kind::Put | Kind::Post | Kind::Delete => {
                    ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(), Vec::new())
                }
            };
            side.send(text.as_bytes()).unwrap();
            side.send(&body).unwrap();
        }
    });
    (address, thread)
}

#[test]
fn answers_are_late_and_requests_counted() {
    let (address, server) = server();
    let proxy = Proxy::start(address).unwrap();
    let delay = Duration::from_millis(40);
    proxy.set(Distance { delay, bandwidth: None });
    let stream = TcpStream::connect(proxy.endpoint().trim_start_matches("http://")).unwrap();
    let mut client = Side::new(&stream);
    let put = format!("PUT /b/k HTTP/1.1\r\nContent-Length: {LARGE}\r\nExpect: 100-continue\r\n\r\n");
    client.send(put.as_bytes()).unwrap();
    assert!(client.answer(Kind::Put).unwrap().1.interim);
    client.send(&vec![1; LARGE - 1]).unwrap();
    let before_last_byte = Instant::now();
    client.send(&[1]).unwrap();
    assert!(!client.answer(Kind::Put).unwrap().1.interim);
    assert!(before_last_byte.elapsed() >= delay, "{:?}", before_last_byte.elapsed());
    client.send(b"GET /b?list-type=2 HTTP/1.1\r\n\r\n").unwrap();
    client.answer(Kind::List).unwrap();
    assert_eq!(client.take_until(b"0\r\n\r\n").unwrap().unwrap(), "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    client.send(b"HEAD /b/k HTTP/1.1\r\n\r\n").unwrap();
    client.answer(Kind::Head).unwrap();
    // A bound that this body needs 100 ms for; the last piece may leave 20 ms before.
    proxy.set(Distance { delay: Duration::ZERO, bandwidth: Some(LARGE as f64 * 10.0) });
    let asked = Instant::now();
    client.send(b"GET /b/k HTTP/1.1\r\n\r\n").unwrap();
    client.answer(Kind::Get).unwrap();
    let mut body = std::mem::take(&mut client.ahead);
    let left = (LARGE - body.len()) as u64;
    (&stream).take(left).read_to_end(&mut body).unwrap();
    assert!(asked.elapsed() >= Duration::from_millis(70), "{:?}", asked.elapsed());
    assert!(body == vec![7; LARGE]);
    drop(stream);
    server.join().unwrap();
    drop_and_check(proxy);
}

fn drop_and_check(proxy: Proxy) {
    let state = Arc::clone(&proxy.state);
    drop(proxy);
    let counts = *lock(&state.counts);
    assert_eq!(
        counts,
        Counts {
            get: 1,
            head: 1,
            put: 1,
            list: 1,
            up_bytes: LARGE as u64,
            // Chunks are counted with their ends of line.
            down_bytes: LARGE as u64 + 9,
            ..Counts::default()
        }
    );
}
