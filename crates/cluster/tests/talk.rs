//! The talk of workers about the run itself, between posts in one process with a clock that is handed in.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use collimate_cluster::Ending;
use collimate_cluster::member::Shared;
use collimate_cluster::post::{Leave, Order, Post};
use collimate_cluster::roster::{Joined, Own, Place, Roster};
use collimate_cluster::word::{Letter, Tag};
use collimate_run::Error;
use collimate_run::team::{Arrival, Channel, LEADER, Loss};

/// How a worker stands in this play.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Works,
    /// It does nothing, but its letters are carried.
    Hangs,
    /// It works, but no letter goes from it or to it.
    CutOff,
    /// Stopped or killed.
    Gone,
}

struct Worker {
    post: Post,
    shared: Arc<Shared>,
    joined: Receiver<Joined>,
    state: State,
    progress: Box<dyn Fn()>,
}

struct Play(Vec<Worker>);

const TURN: Duration = Duration::from_millis(100);

impl Play {
    /// Workers of these programs, with a limit of three seconds.
    fn new(programs: &[u8]) -> Self {
        let worker = |(rank, program): (usize, &u8)| {
            let shared = Arc::new(Shared::new(rank, programs.len()));
            let (complete, joined) = channel();
            let own = Own {
                place: Place { host: format!("node-{rank}"), cores: vec![0] },
                program: [*program; 32],
                limit: Duration::from_secs(3),
            };
            let post = Post::new(Arc::clone(&shared), Roster::new(own, (rank, programs.len()), complete));
            let getting_on = Arc::clone(&shared);
            let progress = Box::new(move || getting_on.show_progress());
            Worker { post, shared, joined, state: State::Works, progress }
        };
        Self(programs.iter().enumerate().map(worker).collect())
    }

    /// Lets time pass, as long as letters take to go round.
    fn turns(&mut self, turns: usize) {
        for _ in 0..turns {
            let mut letters = Vec::new();
            for (rank, worker) in self.0.iter_mut().enumerate() {
                match worker.state {
                    State::Gone => continue,
                    State::Hangs => {}
                    State::Works | State::CutOff => (worker.progress)(),
                }
                worker.post.pass(TURN);
                letters.extend(std::iter::from_fn(|| worker.post.next_letter()).map(|letter| (rank, letter)));
            }
            for (from, Letter { to, tag, bytes }) in letters {
                let is_there = |rank: usize| !matches!(self.0[rank].state, State::Gone | State::CutOff);
                if is_there(from) && is_there(to) {
                    self.0[to].post.arrived(from, tag, bytes);
                }
            }
        }
    }

    fn end(&mut self, rank: usize, loss: Option<Loss>, code: u8) {
        self.0[rank].post.order(Order::End(Ending { loss, code }));
    }

    fn leaves(&self) -> Vec<Option<Leave>> {
        self.0.iter().map(|worker| worker.post.leave()).collect()
    }

    fn lost(&self, rank: usize) -> Vec<usize> {
        self.0[rank].shared.mailbox.lost()
    }

    /// What keeps a worker from going on in lockstep.
    fn error(&self, rank: usize, from: usize) -> Error {
        self.0[rank].shared.mailbox.take(from, Channel::Lockstep).unwrap_err()
    }
}

fn failed(cause: &str) -> Loss {
    Loss::Failed { host: "node-2".to_owned(), cause: cause.to_owned() }
}

#[test]
fn all_join_work_and_leave_together() {
    let mut play = Play::new(&[1, 1, 1]);
    play.turns(3);
    for worker in &play.0 {
        let places = worker.joined.try_recv().unwrap().unwrap();
        assert_eq!(places[2].host, "node-2");
    }
    let letter = Letter { to: 2, tag: Tag::Work(Channel::Deal), bytes: vec![7] };
    play.0[1].post.order(Order::Send(letter));
    play.turns(100);
    assert_eq!(play.0[2].shared.mailbox.take_any(Channel::Deal), Arrival::Message(1, vec![7]));
    play.end(1, None, 0);
    play.end(LEADER, None, 0);
    play.turns(100);
    assert_eq!(play.leaves(), [None; 3], "one is still at work");
    play.end(2, None, 0);
    play.turns(3);
    assert_eq!(play.leaves(), [Some(Leave::Together(0)); 3]);
}

#[test]
fn another_program_is_refused_with_rank_and_host() {
    let mut play = Play::new(&[1, 1, 9]);
    play.turns(3);
    for rank in [0, 1] {
        let error = play.0[rank].joined.try_recv().unwrap().unwrap_err();
        assert!(matches!(error, Error::WorkerLost { rank: 2, ref host, .. } if host == "node-2"), "{error}");
    }
    let error = play.0[2].joined.try_recv().unwrap().unwrap_err();
    assert!(matches!(error, Error::WorkerLost { rank: LEADER, .. }), "{error}");
    // The one that is refused leaves the word to the leader.
    play.end(2, Some(failed("worker 0 is lost")), 1);
    play.turns(3);
    assert_eq!(play.leaves(), [None; 3]);
    play.end(1, Some(failed("worker 2 is lost")), 1);
    play.end(LEADER, Some(failed("worker 2 is lost")), 1);
    play.turns(3);
    assert_eq!(play.leaves(), [Some(Leave::Abort(1)), Some(Leave::Alone(1)), Some(Leave::Alone(1))]);
}

#[test]
fn whoever_is_gone_is_lost_to_all_within_the_limit() {
    let mut play = Play::new(&[1; 4]);
    play.turns(10);
    play.0[2].state = State::Gone;
    play.turns(28);
    assert!(play.lost(LEADER).is_empty());
    play.turns(12);
    for rank in [0, 1, 3] {
        assert_eq!(play.lost(rank), [2]);
        let error = play.error(rank, 1 + rank % 2).to_string();
        assert!(error.starts_with("worker 2 on node-2 is lost: nothing was heard of it for 3"), "{error}");
    }
    // The others end because of it, before the leader does, which still names the one.
    for rank in [1, 3, LEADER] {
        play.end(rank, Some(failed("worker 2 on node-2 is lost")), 1);
        play.turns(2);
    }
    assert!(matches!(play.error(LEADER, 1), Error::WorkerLost { rank: 2, .. }));
    let leaves = play.leaves();
    assert_eq!(leaves[LEADER], Some(Leave::Abort(1)));
    assert_eq!([leaves[1], leaves[3]], [Some(Leave::Alone(1)); 2]);
}

#[test]
fn whoever_hangs_is_lost_and_those_that_wait_are_not() {
    let mut play = Play::new(&[1; 3]);
    play.turns(10);
    play.0[1].state = State::Hangs;
    play.turns(45);
    assert_eq!(play.lost(LEADER), [1]);
    let error = play.error(LEADER, 2).to_string();
    assert!(error.starts_with("worker 1 on node-1 is lost: it runs, but"), "{error}");
    // What it still sends comes too late, and it is told that nobody counts on it, should it ever wake.
    play.0[1].state = State::Works;
    let letter = Letter { to: LEADER, tag: Tag::Work(Channel::Deal), bytes: vec![7] };
    play.0[1].post.order(Order::Send(letter));
    play.turns(3);
    assert!(matches!(play.0[LEADER].shared.mailbox.take_any(Channel::Deal), Arrival::Lost(1, _)));
    assert_eq!(play.0[LEADER].shared.mailbox.try_take_any(Channel::Deal), None);
    assert_eq!(play.lost(1), [LEADER]);
    assert_eq!(play.lost(2), [1]);
}

#[test]
fn a_lost_leader_ends_all_others() {
    let mut play = Play::new(&[1; 3]);
    play.turns(10);
    play.0[LEADER].state = State::Gone;
    play.turns(40);
    for rank in [1, 2] {
        assert!(matches!(play.error(rank, LEADER), Error::WorkerLost { rank: LEADER, .. }));
        play.end(rank, Some(failed("worker 0 is lost")), 1);
    }
    play.turns(2);
    assert_eq!(play.leaves()[1..], [Some(Leave::Abort(1)); 2]);
}

#[test]
fn a_failure_is_told_to_all_and_all_leave_together() {
    let mut play = Play::new(&[1; 3]);
    play.turns(3);
    play.end(2, Some(failed("cannot read rows.jsonl")), 1);
    play.turns(3);
    for rank in [0, 1] {
        let error = play.error(rank, 2).to_string();
        assert_eq!(error, "worker 2 on node-2 is lost: cannot read rows.jsonl");
        play.end(rank, Some(failed(&error)), 1);
    }
    play.turns(3);
    assert_eq!(play.leaves(), [Some(Leave::Together(1)); 3]);
}

#[test]
fn a_leader_that_fails_does_not_wait_for_ever() {
    let mut play = Play::new(&[1; 3]);
    play.turns(3);
    play.end(LEADER, Some(Loss::Interrupted), 130);
    play.turns(3);
    assert!(matches!(play.error(1, LEADER), Error::Interrupted));
    play.end(1, Some(Loss::Interrupted), 130);
    play.turns(40);
    assert_eq!(play.leaves(), [None; 3], "worker 2 finishes what it is about");
    play.turns(20);
    assert_eq!(play.leaves()[LEADER], Some(Leave::Abort(130)));
    assert_eq!(play.leaves()[1], Some(Leave::Alone(130)));
}

#[test]
fn an_hour_in_which_all_were_suspended_does_not_count() {
    let mut play = Play::new(&[1; 3]);
    play.turns(10);
    play.0.iter_mut().for_each(|worker| worker.post.pass(Duration::from_secs(3600)));
    play.turns(30);
    assert!((0..3).all(|rank| play.lost(rank).is_empty()));
}

#[test]
fn what_cannot_be_understood_loses_whoever_said_it() {
    let mut play = Play::new(&[1; 2]);
    play.turns(3);
    play.0[LEADER].post.arrived(1, Tag::Word, vec![0xff; 9]);
    assert!(matches!(play.error(LEADER, 1), Error::WorkerLost { rank: 1, .. }));
}

#[test]
fn whoever_was_cut_off_leaves_the_others_in_peace() {
    let mut play = Play::new(&[1; 3]);
    play.turns(10);
    play.0[1].state = State::CutOff;
    play.turns(60);
    assert_eq!((play.lost(LEADER), play.lost(1)), (vec![1], vec![LEADER]));
    // It is back, and finds that it does not count any more.
    play.0[1].state = State::Works;
    play.turns(30);
    play.end(1, Some(failed("worker 0 is lost")), 1);
    play.turns(100);
    assert_eq!(play.leaves(), [None; 3], "the others go on, and it waits for them");
    play.end(2, None, 0);
    play.end(LEADER, None, 0);
    play.turns(3);
    assert_eq!(play.leaves()[1..], [Some(Leave::Alone(0)); 2]);
}

#[test]
fn nothing_more_is_sent_to_whoever_is_lost() {
    let mut play = Play::new(&[1; 3]);
    play.turns(3);
    let work = |to| Order::Send(Letter { to, tag: Tag::Work(Channel::Deal), bytes: vec![7] });
    let leader = &mut play.0[LEADER].post;
    leader.order(work(2));
    leader.arrived(2, Tag::Word, vec![0xff; 9]);
    leader.order(work(2));
    leader.order(work(1));
    let sent: Vec<_> = std::iter::from_fn(|| leader.next_letter()).collect();
    let receivers = sent.iter().filter(|letter| letter.tag != Tag::Word).map(|letter| letter.to);
    assert_eq!(receivers.collect::<Vec<_>>(), [1]);
}

#[test]
fn beats_go_before_what_waits_to_be_sent() {
    let mut play = Play::new(&[1; 2]);
    play.turns(3);
    let post = &mut play.0[1].post;
    post.order(Order::Send(Letter { to: LEADER, tag: Tag::Work(Channel::Lockstep), bytes: vec![7; 1000] }));
    (0..5).for_each(|_| post.pass(TURN));
    assert_eq!(post.next_letter().unwrap().tag, Tag::Word);
}

#[test]
fn workers_that_all_wait_for_each_other_end() {
    let mut play = Play::new(&[1; 3]);
    play.turns(10);
    let waiting: Vec<_> = (0..3)
        .map(|rank| {
            play.0[rank].state = State::Hangs;
            let shared = Arc::clone(&play.0[rank].shared);
            std::thread::spawn(move || {
                shared.mailbox.take((rank + 1) % 3, Channel::Lockstep).unwrap_err().to_string()
            })
        })
        .collect();
    while !play.0.iter().all(|worker| worker.shared.mailbox.is_awaited()) {
        std::thread::yield_now();
    }
    play.turns(25);
    assert!(waiting.iter().all(|worker| !worker.is_finished()));
    play.turns(20);
    for worker in waiting {
        let error = worker.join().unwrap();
        assert!(error.contains("all workers wait for each other"), "{error}");
    }
    (0..3).for_each(|rank| play.end(rank, Some(failed("all wait")), 1));
    play.turns(3);
    assert_eq!(play.leaves(), [Some(Leave::Together(1)); 3]);
}
