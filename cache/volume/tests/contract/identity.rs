//! A metadata service that insists on a session token, as IMDSv2 does.

use tarn_volume::cloud::ec2::Identity;
use tarn_volume::{InstanceId, Zone};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) async fn an_instance_knows_itself() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = Identity::ask(Some(&endpoint));
    let served = async {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream));
        }
    };
    let identity = tokio::select! {
        identity = asked => identity.unwrap(),
        () = served => panic!("it serves for ever"),
    };
    let expected = Identity {
        instance: InstanceId::new("i-0123456789abcdef0"),
        zone: Zone::new("eu-central-1b"),
        region: "eu-central-1".into(),
    };
    assert_eq!(identity, expected);
}

/// Answers one request and closes.
async fn serve(mut stream: TcpStream) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
            return;
        }
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request).to_lowercase();
    let has_token = request.contains("x-aws-ec2-metadata-token: secret");
    let (status, body) = match request.lines().next().unwrap_or_default() {
        line if line.starts_with("put /latest/api/token") => ("200 OK", "secret"),
        _ if !has_token => ("401 Unauthorized", ""),
        line if line.contains("/meta-data/instance-id ") => ("200 OK", "i-0123456789abcdef0"),
        line if line.contains("/placement/availability-zone ") => ("200 OK", "eu-central-1b\n"),
        line if line.contains("/placement/region ") => ("200 OK", "eu-central-1"),
        _ => ("404 Not Found", ""),
    };
    let length = body.len();
    let header = "x-aws-ec2-metadata-token-ttl-seconds: 21600\r\nConnection: close";
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{header}\r\n\r\n{body}");
    // The client may have gone.
    let _ = stream.write_all(answer.as_bytes()).await;
}
