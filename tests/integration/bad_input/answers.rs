//! A vendor that answers without end: what the program does, and how much memory it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Setup, TestEnvironment, ended};

/// What the program may hold at most, in a debug build, whatever it is answered. It is a third of that in peace.
const MOST_KIB: u64 = 120 * 1024;
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 35\r\n\r\n{\"ActionStatus\":\"OK\",\"ErrorCode\":0}";

/// How the vendor answers once it has said OK for the first time.
#[derive(Clone, Copy, Debug)]
enum EndlessAnswer {
    /// Spaces without end.
    Endless,
    /// As much as is taken, and then nothing more, so that all calls in flight hold it.
    UpToTheLimit,
}

async fn answer(mut stream: TcpStream, answered: Arc<AtomicUsize>, flood: EndlessAnswer) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let mut request = String::new();
        loop {
            if let Some((head, body)) = request.split_once("\r\n\r\n") {
                let head = head.to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                if body.len() >= length.unwrap_or(0) {
                    break;
                }
            }
            match stream.read(&mut buffer).await? {
                0 => return Ok(()),
                read => request += &String::from_utf8_lossy(&buffer[..read]),
            }
        }
        if answered.fetch_add(1, Ordering::SeqCst) == 0 {
            stream.write_all(OK.as_bytes()).await?;
            continue;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n").await?;
        let spaces = vec![b' '; 64 * 1024];
        match flood {
            EndlessAnswer::Endless => loop {
                stream.write_all(&spaces).await?;
            },
            EndlessAnswer::UpToTheLimit => {
                for _ in 0..127 {
                    stream.write_all(&spaces).await?;
                }
                // Until the caller has had enough.
                return stream.read(&mut buffer).await.map(|_| ());
            }
        }
    }
}

fn high_water_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
}

async fn fed(flood: EndlessAnswer) {
    // A user a call, so that as many calls as may be are in flight together.
    let im = "timeout = \"2s\"\nretry_for = \"1s\"\nusers_per_call = 1\n".to_owned();
    let env = TestEnvironment::set_up(Setup { im, ..Setup::default() }).await;
    env.execute("INSERT INTO users (id, city) SELECT 'u' || g, 'Graz' FROM generate_series(1, 150) g").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    env.edit(&env.im.base_url(), &format!("http://{}", listener.local_addr().expect("it listens")));
    let answered = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&answered);
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, Arc::clone(&counted), flood));
        }
    });
    let mut child = env.start("backfill", &["backfill"]);
    let pid = child.id().expect("it runs");
    let mut highest = 0;
    let code = loop {
        highest = highest.max(high_water_kib(pid).unwrap_or_default());
        if child.try_wait().expect("a child can be asked").is_some() {
            break ended(&mut child).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    server.abort();
    let printed = env.printed("backfill", "err");
    println!("{flood:?}: {} calls, at most {highest} KiB", answered.load(Ordering::SeqCst));
    assert!(answered.load(Ordering::SeqCst) > 20, "{printed}");
    assert!(highest > 0 && highest < MOST_KIB, "{flood:?}: {highest} KiB");
    assert!(matches!(code, Some(0 | 1 | 3)) && !printed.contains("panicked"), "{code:?} {printed}");
    // What was acknowledged is one account's; nobody else may count as done.
    let known = "SELECT count(*) FROM imsync.account WHERE in_doubt_retry_at IS NULL";
    assert_eq!(env.number(known).await, 1, "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_answer_fills_no_memory() {
    fed(EndlessAnswer::Endless).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_large_answers_at_once_fill_no_memory() {
    fed(EndlessAnswer::UpToTheLimit).await;
}
