//! The worker processes: started when needed, asked one question at a time, ended where they take too long, and when
//! nothing was asked for a while.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::{
    serve,
    wire::{BorrowedMessage, Message},
};
use crate::{limits, plan::poison::Died};

/// How often it is looked at how long a worker has been at it.
const LOOK: Duration = Duration::from_millis(20);

/// How many new workers are started for one question.
const STARTS: u32 = 3;

/// What one piece of work may take.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// Memory.
    pub bytes: usize,
    /// Time on a processor.
    pub time: Duration,
}

/// How a question ended without an answer.
#[derive(Debug)]
pub enum End {
    /// It took too long, and was ended.
    TooLong,
    /// The worker died.
    Died(Died),
    /// None could be started, or was lost before it had the question.
    NoWorker(String),
}

/// Workers that wait for a question.
pub struct Workers {
    program: PathBuf,
    idle: Mutex<Vec<(Worker, Instant)>>,
}

impl Workers {
    pub fn new(program: PathBuf) -> Self {
        Self { program, idle: Mutex::default() }
    }

    /// Asks a worker, and waits for its answer on this thread.
    ///
    /// # Errors
    /// See [`End`].
    pub fn ask(&self, question: &BorrowedMessage<'_>, may: Allowance) -> Result<Message, End> {
        let (worker, answer) = self.ask_one(question, may)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // What one question left behind in it must not grow with the next; and no more wait than may be at work.
        if worker.bytes == limits::HEAVY_WORKER_BYTES
            && worker.answered < limits::HEAVY_WORKER_ANSWERS
            && worker.resident() <= limits::HEAVY_WORKER_KEPT_BYTES
            && idle.len() < limits::HEAVY_THREADS
        {
            idle.push((worker, Instant::now()));
        }
        Ok(answer)
    }

    fn ask_one(&self, question: &BorrowedMessage<'_>, may: Allowance) -> Result<(Worker, Message), End> {
        while let Some(mut worker) = self.take(may.bytes) {
            match worker.ask(question, may.time) {
                // Someone ended it while it waited.
                Err(End::NoWorker(_)) => {}
                answer => return answer.map(|answer| (worker, answer)),
            }
        }
        if may.bytes > limits::HEAVY_WORKER_BYTES {
            // It may take all the memory that there is.
            self.end_idle(Instant::now());
        }
        let none = |error: io::Error| End::NoWorker(error.to_string());
        let mut tries = 1;
        loop {
            let mut worker = Worker::start(&self.program, may.bytes).map_err(none)?;
            match worker.ask(question, may.time) {
                // One that ended before it had the question says nothing of it: another may be luckier.
                Err(End::NoWorker(_)) if tries < STARTS => tries += 1,
                answer => return answer.map(|answer| (worker, answer)),
            }
        }
    }

    fn take(&self, bytes: usize) -> Option<Worker> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.iter().position(|(worker, _)| worker.bytes == bytes)?;
        Some(idle.swap_remove(at).0)
    }

    /// Ends the workers that nothing was asked of since.
    pub fn end_idle(&self, since: Instant) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).retain(|(_, last)| *last > since);
    }
}

struct Worker {
    child: Child,
    questions: ChildStdin,
    answers: mpsc::Receiver<io::Result<Message>>,
    bytes: usize,
    answered: usize,
}

impl Worker {
    fn start(program: &PathBuf, bytes: usize) -> io::Result<Self> {
        let mut child = Command::new(program)
            .arg(serve::COMMAND)
            .arg(bytes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What a dying process says may hold a value.
            .stderr(Stdio::null())
            // It needs nothing of the operator's settings, and has no business with its credentials.
            .env_clear()
            .spawn()?;
        let (Some(questions), Some(mut from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let (send, answers) = mpsc::channel();
        let read = move || {
            loop {
                let message = Message::read(&mut from);
                let is_last = message.is_err();
                if send.send(message).is_err() || is_last {
                    return;
                }
            }
        };
        let worker = Self { child, questions, answers, bytes, answered: 0 };
        thread::Builder::new().name("heavy-answers".into()).stack_size(128 * 1024).spawn(read)?;
        Ok(worker)
    }

    fn ask(&mut self, question: &BorrowedMessage<'_>, time: Duration) -> Result<Message, End> {
        let (began, used_before) = (Instant::now(), self.used());
        if question.write(&mut self.questions).is_err() {
            // It ended before it had the question, so not of it.
            return Err(match self.end() {
                End::Died(how) => End::NoWorker(how.to_string()),
                other => other,
            });
        }
        loop {
            match self.answers.recv_timeout(LOOK) {
                Ok(Ok(answer)) => {
                    self.answered += 1;
                    return Ok(answer);
                }
                Ok(Err(_)) | Err(mpsc::RecvTimeoutError::Disconnected) => return Err(self.end()),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    // Judged by its own time on a processor, for on a crowded node others take the rest; but one that sleeps
                    // for ever ends, too.
                    let used = self.used().saturating_sub(used_before);
                    if used > time || began.elapsed() > time.saturating_mul(limits::HEAVY_PATIENCE) {
                        return Err(End::TooLong);
                    }
                }
            }
        }
    }

    /// How it ended. One that only closed its output is ended.
    fn end(&mut self) -> End {
        for _ in 0..50 {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    return match (status.signal(), status.code()) {
                        (Some(signal), _) => End::Died(Died::of_signal(signal)),
                        (None, code) => End::Died(Died::Exit(code.unwrap_or_default())),
                    };
                }
                Ok(None) => thread::sleep(Duration::from_millis(10)),
                Err(error) => return End::NoWorker(error.to_string()),
            }
        }
        End::NoWorker("it stopped answering".into())
    }

    /// What it keeps in memory; all there is where that can't be read.
    fn resident(&self) -> usize {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap_or_default();
        anonymous(&statm).unwrap_or(usize::MAX)
    }

    /// Its time on a processor. What can't be read counts as none: the patience bounds it all the same.
    fn used(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        ticks(&stat).map_or(Duration::ZERO, |ticks| Duration::from_millis(ticks.saturating_mul(10)))
    }
}

/// Bytes of a line of `/proc/<pid>/statm` that are in memory and of no file: of the pages it has, those that are shared go off.
fn anonymous(statm: &str) -> Option<usize> {
    let mut fields = statm.split_whitespace().skip(1);
    let (resident, shared): (usize, usize) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(resident.saturating_sub(shared).saturating_mul(rustix::param::page_size()))
}

/// Time in user and kernel mode of a line of `/proc/<pid>/stat`, in hundredths of a second.
fn ticks(stat: &str) -> Option<u64> {
    // The name of the program stands in brackets, and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user.saturating_add(system))
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Both fail only where it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_process_is_read_whatever_it_is_called() {
        let stat = "7 (a) b (c) R 1 7 7 0 -1 4194304 900 0 0 0 12 3 0 0 20 0 1 0 100 0 0";
        assert_eq!(ticks(stat), Some(15));
        assert_eq!(ticks("7 (a"), None);
        assert_eq!(ticks("7 (a) R 1"), None);
    }

    #[test]
    fn the_memory_of_a_process_is_what_it_shares_with_no_file() {
        assert_eq!(anonymous("9000 300 100 5 0 70 0"), Some(200 * rustix::param::page_size()));
        assert_eq!((anonymous("9000 300"), anonymous("")), (None, None));
    }

    #[test]
    fn a_program_that_is_no_worker_is_no_fault_of_the_question() {
        let may = Allowance { bytes: limits::HEAVY_WORKER_BYTES, time: Duration::from_secs(1) };
        let question = BorrowedMessage::new(&"question", Vec::new()).unwrap();
        for program in ["/nonexistent", "/dev/null"] {
            let end = Workers::new(program.into()).ask(&question, may).unwrap_err();
            assert!(matches!(end, End::NoWorker(_)), "{program}: {end:?}");
        }
    }
}
