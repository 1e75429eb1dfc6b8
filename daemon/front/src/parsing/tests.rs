use super::*;
use std::sync::mpsc;

fn owner(uid: u32) -> Owner {
    Owner { socket: "control".into(), uid }
}

fn limits() -> Limits {
    Limits { parsing_jobs_per_owner: 3, parsing_cpu_per_owner: 6, ..Limits::default() }
}

fn submit(queues: &mut Queues, uid: u32, now: Instant) -> Result<(), Failure> {
    let limits = limits();
    queues.submit(&owner(uid), Box::new(|| {}), limits.parsing_jobs_per_owner as usize, &limits, now)
}

/// Returns the user whose job is next.
fn next(queues: &mut Queues, now: Instant) -> Option<u32> {
    match queues.next(now) {
        Next::Run(owner, _) => Some(owner.uid),
        Next::Wait(_) => None,
    }
}

#[test]
fn finding_4_an_owner_has_one_thread_at_a_time_and_owners_take_turns() {
    let (mut queues, now) = (Queues::default(), Instant::now());
    for uid in [1, 1, 1, 2, 2, 3] {
        submit(&mut queues, uid, now).unwrap();
    }
    let first: Vec<_> = (0..4).map(|_| next(&mut queues, now)).collect();
    assert_eq!(first, [Some(1), Some(2), Some(3), None], "each once, though the first has more jobs");
    queues.done(owner(2), Duration::ZERO);
    queues.done(owner(1), Duration::ZERO);
    assert_eq!([next(&mut queues, now), next(&mut queues, now)], [Some(2), Some(1)]);
    queues.done(owner(1), Duration::ZERO);
    assert_eq!([next(&mut queues, now), next(&mut queues, now)], [Some(1), None]);
}

#[test]
fn finding_4_what_waits_of_one_owner_is_bounded_and_others_have_room() {
    let (mut queues, now) = (Queues::default(), Instant::now());
    for _ in 0..3 {
        submit(&mut queues, 1, now).unwrap();
    }
    let refused = submit(&mut queues, 1, now).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Limit);
    assert!(refused.message.contains("parsing_jobs_per_owner"), "{refused}");
    submit(&mut queues, 2, now).unwrap();
}

#[test]
fn finding_4_who_has_used_up_its_cpu_time_waits_and_nobody_else_does() {
    let (mut queues, now) = (Queues::default(), Instant::now());
    submit(&mut queues, 1, now).unwrap();
    assert_eq!(next(&mut queues, now), Some(1));
    submit(&mut queues, 1, now).unwrap();
    // The budget is six seconds per minute. After a use of seven seconds it takes ten seconds until there is time
    // again.
    queues.done(owner(1), Duration::from_secs(7));
    submit(&mut queues, 2, now).unwrap();
    assert_eq!([next(&mut queues, now), next(&mut queues, now)], [Some(2), None]);
    let Next::Wait(Some(wait)) = queues.next(now) else { panic!("it waits for nothing") };
    assert!((9..=11).contains(&wait.as_secs()), "{wait:?}");
    assert_eq!(next(&mut queues, now + Duration::from_secs(9)), None);
    assert_eq!(next(&mut queues, now + Duration::from_secs(11)), Some(1));
}

#[test]
fn who_has_been_quiet_is_forgotten_and_debts_are_not() {
    let (mut queues, now) = (Queues::default(), Instant::now());
    for uid in 0..2 {
        submit(&mut queues, uid, now).unwrap();
        assert_eq!(next(&mut queues, now), Some(uid));
        queues.done(owner(uid), Duration::from_secs(u64::from(uid)));
    }
    queues.sweep(now);
    assert_eq!(queues.accounts.keys().map(|owner| owner.uid).collect::<Vec<_>>(), [1]);
    queues.sweep(now + WINDOW);
    assert!(queues.accounts.is_empty());
}

#[tokio::test]
async fn finding_4_a_job_that_does_not_end_holds_up_nobody_else() {
    let parsing = Parsing::start().unwrap();
    let (release, held) = mpsc::channel::<()>();
    let (begun, has_begun) = oneshot::channel();
    let (hostile, other) = (owner(1), owner(2));
    let limits = Limits::default();
    let endless = parsing.run(&hostile, &limits, move || {
        let _ = begun.send(());
        let _ = held.recv();
    });
    let quick = async {
        has_begun.await.unwrap();
        let answer = parsing.run(&other, &limits, || 7).await;
        drop(release);
        answer
    };
    let (endless, quick) = tokio::join!(endless, quick);
    assert_eq!((endless, quick), (Ok(()), Ok(7)));
}

#[tokio::test]
async fn a_job_that_panics_fails_alone() {
    let parsing = Parsing::start().unwrap();
    let limits = Limits::default();
    for _ in 0..2 * THREADS {
        let failed = parsing.run(&owner(1), &limits, || panic!("a test's")).await;
        assert_eq!(failed.map_err(|failure| failure.code), Err::<(), _>(ErrorCode::Internal));
    }
    assert_eq!(parsing.run(&owner(1), &limits, || 7).await, Ok(7));
}
