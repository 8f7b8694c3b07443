//! What the background threads do: sealing, merging, syncing what nobody waits for, telling readers beside this
//! process, and reading sealed files again.

use std::time::Duration;

use super::engine::Engine;
use super::threads::Threads;
use crate::env::Thread;
use crate::env::sync::Arc;
use crate::env::sync::channel::{self, Receiver};
use crate::error::{Error, Result};

/// After a failure a step is tried again after this time, and after each further one after twice the time before.
const RETRY: Duration = Duration::from_secs(1);
/// The longest time between two tries.
const RETRY_MOST: Duration = Duration::from_secs(60);
/// Readers beside this process see what is published after at most about this time.
const NOTED: Duration = Duration::from_millis(2);
/// So often in an interval it is looked whether a file is to be read again, or written anew.
const LOOKS: u32 = 100;
/// The longest time between two such looks.
const LOOK_MOST: Duration = Duration::from_secs(3600);
/// A Sync commit that nobody waits for is synced after this time.
const UNWAITED: Duration = Duration::from_millis(2);

/// Starts the threads of an engine. If one can't be started the store is closed.
pub fn begin(engine: &Arc<Engine>) -> Result<()> {
    match start(engine) {
        Ok(threads) => engine.keep_threads(threads),
        Err(error) => {
            let _ = engine.close();
            return Err(error);
        }
    }
    Ok(())
}

/// Starts the threads that seal, merge, sync, note and scrub. They end when their wakers are dropped.
fn start(engine: &Arc<Engine>) -> Result<Threads> {
    let (seal, seals) = channel::bounded(1);
    let (segments, segment_merges) = channel::bounded(1);
    let (runs, run_merges) = channel::bounded(1);
    let (sync, syncs) = channel::bounded(1);
    let (note, notes) = channel::bounded(1);
    let (scrub, scrubs) = channel::bounded(1);
    let merges = [segments, runs];
    let next = merges.clone();
    let mut handles = Vec::new();
    handles.push(spawn(engine, "chanlog-seal", seals, move |engine| {
        repeat(engine, "seal", |engine| {
            let sealed = engine.seal_step();
            // After each, as under load there may be no last one.
            next.iter().for_each(|merge| _ = merge.try_send(()));
            sealed
        });
    })?);
    let work = |engine: &Engine| repeat(engine, "merge segments", Engine::merge_segments);
    handles.push(spawn(engine, "chanlog-merge", segment_merges, work)?);
    let work = |engine: &Engine| repeat(engine, "merge runs", Engine::merge_runs);
    handles.push(spawn(engine, "chanlog-rows", run_merges, work)?);
    handles.push(spawn(engine, "chanlog-sync", syncs, sync_after)?);
    handles.push(spawn(engine, "chanlog-note", notes, note_after)?);
    handles.push(spawn(engine, "chanlog-scrub", scrubs, look_now_and_then)?);
    let _ = scrub.try_send(());
    let threads = Threads { seal, merges, sync, note, scrub, handles };
    threads.wake_sealer();
    threads.wake_mergers();
    Ok(threads)
}

fn spawn(
    engine: &Arc<Engine>,
    name: &'static str,
    wakes: Receiver<()>,
    work: impl Fn(&Engine) + Send + 'static,
) -> Result<Box<dyn Thread>> {
    let weak = Arc::downgrade(engine);
    let run = move || {
        for () in wakes {
            let Some(engine) = weak.upgrade() else { return };
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&engine)));
            if done.is_err() {
                engine.panicked(name);
                return;
            }
        }
    };
    let spawned = engine.options.env.spawn(name, Box::new(run));
    spawned.map_err(|error| Error::io("start thread", std::path::Path::new(name), error))
}

/// Steps until there is nothing to do. A failure is tried again later, unless the store closes.
fn repeat(engine: &Engine, what: &str, step: impl Fn(&Engine) -> Result<bool>) {
    let mut pause = RETRY;
    loop {
        match step(engine) {
            Ok(true) => pause = RETRY,
            Ok(false) => return,
            Err(_) if engine.signals.closed() => return,
            Err(error @ Error::Poisoned { .. }) => {
                tracing::error!(name: "upkeep stopped", target: "chanlog", %error, what, "upkeep stops");
                return;
            }
            Err(error) => {
                tracing::warn!(name: "upkeep failed", target: "chanlog", %error, what, "upkeep failed and will be tried again");
                engine.signals.doze(pause);
                pause = (pause * 2).min(RETRY_MOST);
            }
        }
    }
}

/// Syncs what nobody waits for: what is buffered one interval after it came, all else soon, and at once what a task waits
/// for.
fn sync_after(engine: &Engine) {
    let syncer = engine.syncer();
    while syncer.lags() {
        if !syncer.tasks_wait() {
            let pause = if syncer.promised() { UNWAITED } else { engine.options.sync_interval };
            engine.signals.doze(pause.min(engine.options.sync_interval));
        }
        let ended = engine.signals.closed() || syncer.sync().is_err();
        engine.tell();
        if ended {
            return;
        }
    }
}

/// Reads sealed files again, and takes out what was erased, when that is due, until the store closes.
fn look_now_and_then(engine: &Engine) {
    let intervals = [engine.options.scrub_interval, engine.options.erase_within];
    let pauses = intervals.into_iter().map(|interval| (interval / LOOKS).min(LOOK_MOST));
    let Some(pause) = pauses.filter(|pause| !pause.is_zero()).min() else { return };
    while !engine.signals.closed() {
        match engine.look_step() {
            Ok(true) => {}
            Ok(false) => engine.signals.doze(pause),
            Err(_) if engine.signals.closed() => return,
            Err(Error::Poisoned { .. }) => return,
            Err(error) => {
                tracing::warn!(name: "upkeep failed", target: "chanlog", %error, what = "look", "upkeep failed and will be tried again");
                engine.signals.doze(pause.max(RETRY_MOST));
            }
        }
    }
}

/// Tells readers beside this process how far commits are published, until all that was written is.
fn note_after(engine: &Engine) {
    loop {
        engine.signals.doze(NOTED);
        // In this order: what is published from now on is noted the next time.
        let all = engine.syncer().is_all_published();
        engine.note_published();
        engine.kernel.collect();
        if all || engine.signals.closed() {
            return;
        }
    }
}
