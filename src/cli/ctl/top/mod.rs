//! `willowmq ctl top`: the broker, looked at over and over again.
//!
//! A thread of its own asks the broker, so that keys are heard while an answer is waited for.

mod figures;
mod view;

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::{DefaultTerminal, Terminal};
use signal_hook::consts::{SIGHUP, SIGTERM};

use super::overview::Overview;
use super::parse_span;
use super::server::Server;
use super::table::terminal_width;
use crate::cli::{FAILURE, Failure, Outcome, SUCCESS};
use figures::{Order, Seen};
use view::Frills;

const INTERVAL_MIN: Duration = Duration::from_millis(250);
const INTERVAL_MAX: Duration = Duration::from_secs(60);
/// How soon a key, an answer or a signal is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Width of a frame that no terminal bounds.
const WIDTH: u16 = 80;

/// How to watch.
#[derive(Args)]
pub(super) struct Options {
    /// Time between two looks
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_span)]
    interval: Duration,
    /// Print one frame as text, with the rates of one interval, and end
    #[arg(long)]
    once: bool,
}

/// Watches until it is told to stop.
pub(super) fn run(options: &Options, server: Server) -> Outcome {
    let interval = options.interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
    let mut seen = Seen::default();
    seen.add(look(&server)?); // What is wrong from the beginning is told before the screen is taken.
    if options.once {
        thread::sleep(interval);
        seen.add(look(&server)?);
        return once(&seen, &server, interval);
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::usage("top needs a terminal; for a script there are top --once and status --json"));
    }
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&ended)).map_err(|error| failed(&error))?;
    }
    let (asked, question) = sync_channel(1);
    let (answered, answer) = sync_channel(1);
    let mut screen = Screen::new(interval, seen, server.url().to_owned());
    // Nobody waits for its end: it may be waiting for an answer itself, and whoever quits does not want that any more.
    thread::spawn(move || ask(&server, &question, &answered));
    let terminal = Restoring(ratatui::try_init().map_err(|error| failed(&error))?);
    screen.show(terminal, &ended, &asked, &answer).map_err(|error| failed(&error))?;
    Ok(SUCCESS)
}

fn failed(error: &io::Error) -> Failure {
    Failure::new(format!("the terminal fails: {error}"), FAILURE)
}

fn look(server: &Server) -> Result<Overview, Failure> {
    let answer = server.get("/api/v1/overview", &[])?;
    Overview::parse(&answer).map_err(|error| server.not_understood(&error))
}

/// Asks the broker whenever it is told to, until nobody wants to know any more.
fn ask(server: &Server, question: &Receiver<()>, answered: &SyncSender<Result<Overview, Failure>>) {
    while question.recv().is_ok() {
        if answered.send(look(server)).is_err() {
            return;
        }
    }
}

/// Prints one frame as text.
fn once(seen: &Seen, server: &Server, interval: Duration) -> Outcome {
    let width = u16::try_from(terminal_width()).unwrap_or(WIDTH).max(WIDTH);
    let backend = TestBackend::new(width, view::height(seen.now.shards.len()));
    let Ok(mut terminal) = Terminal::new(backend); // It is memory, so nothing can fail.
    let frills = Frills {
        url: server.url(),
        interval: interval.as_secs_f64(),
        is_paused: false,
        order: Order::default(),
        trouble: None,
    };
    let Ok(_) = terminal.draw(|frame| view::draw(frame, seen, &frills));
    crate::cli::print(&as_text(terminal.backend().buffer()))
}

/// What is on a screen, without its colours.
fn as_text(buffer: &Buffer) -> String {
    let mut text = String::new();
    for line in buffer.content().chunks(usize::from(buffer.area.width).max(1)) {
        let line: String = line.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The terminal as we have it; it is as it was once this is dropped. A panic restores it, too, by a hook that `try_init` has set.
struct Restoring(DefaultTerminal);

impl Drop for Restoring {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What is on the screen, and what keys have changed.
struct Screen {
    seen: Seen,
    url: String,
    interval: Duration,
    is_paused: bool,
    order: Order,
    trouble: Option<String>,
    has_ended: bool,
}

impl Screen {
    fn new(interval: Duration, seen: Seen, url: String) -> Self {
        let order = Order::default();
        Self { seen, url, interval, is_paused: false, order, trouble: None, has_ended: false }
    }

    fn show(
        &mut self,
        mut terminal: Restoring,
        ended: &AtomicBool,
        asked: &SyncSender<()>,
        answer: &Receiver<Result<Overview, Failure>>,
    ) -> io::Result<()> {
        let (mut last_look, mut is_waiting) = (Instant::now(), false);
        self.draw(&mut terminal.0)?;
        while !self.has_ended && !ended.load(Ordering::Relaxed) {
            let mut is_new = false;
            if event::poll(LOOK_EVERY)? {
                if let Event::Key(key) = event::read()? {
                    self.on_key(key);
                }
                is_new = true; // A new size needs nothing but a new frame.
            }
            match answer.try_recv() {
                Ok(answer) => {
                    is_waiting = false;
                    self.take(answer);
                    is_new = true;
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Ok(()), // The thread has panicked, which the hook has told.
            }
            if !is_waiting && !self.is_paused && last_look.elapsed() >= self.interval {
                (last_look, is_waiting) = (Instant::now(), asked.try_send(()).is_ok());
            }
            if is_new {
                self.draw(&mut terminal.0)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, answer: Result<Overview, Failure>) {
        match answer {
            Ok(overview) => {
                self.seen.add(overview);
                self.trouble = None;
            }
            Err(failure) => self.trouble = Some(failure.said),
        }
    }

    fn on_key(&mut self, key: KeyEvent) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => self.has_ended = true,
            KeyCode::Char('q') | KeyCode::Esc => self.has_ended = true,
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('s') => self.order = self.order.next(),
            KeyCode::Char('+' | '=') => self.interval = (self.interval * 2).min(INTERVAL_MAX),
            KeyCode::Char('-') => self.interval = (self.interval / 2).max(INTERVAL_MIN),
            _ => {}
        }
    }

    fn draw(&self, terminal: &mut DefaultTerminal) -> io::Result<()> {
        let frills = Frills {
            url: &self.url,
            interval: self.interval.as_secs_f64(),
            is_paused: self.is_paused,
            order: self.order,
            trouble: self.trouble.as_deref(),
        };
        terminal.draw(|frame| view::draw(frame, &self.seen, &frills)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(screen: &mut Screen, character: char) {
        screen.on_key(KeyEvent::new(KeyCode::Char(character), KeyModifiers::NONE));
    }

    #[test]
    fn keys_do_what_the_last_line_says() {
        let mut screen = Screen::new(Duration::from_secs(2), Seen::default(), String::new());
        press(&mut screen, 'p');
        press(&mut screen, 's');
        press(&mut screen, '+');
        assert!(screen.is_paused && screen.order == Order::Connections && screen.interval == Duration::from_secs(4));
        press(&mut screen, 'p');
        for _ in 0..20 {
            press(&mut screen, '-');
        }
        assert!(!screen.is_paused && screen.interval == INTERVAL_MIN && !screen.has_ended);
        press(&mut screen, 'q');
        assert!(screen.has_ended);
    }

    #[test]
    fn control_c_ends_it_too() {
        let mut screen = Screen::new(Duration::from_secs(2), Seen::default(), String::new());
        press(&mut screen, 'c');
        assert!(!screen.has_ended);
        screen.on_key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(screen.has_ended);
    }

    #[test]
    fn trouble_lasts_until_the_next_answer() {
        let mut screen = Screen::new(Duration::from_secs(2), Seen::default(), String::new());
        screen.take(Err(Failure::new("gone", 3)));
        assert_eq!(screen.trouble.as_deref(), Some("gone"));
        screen.take(Ok(figures::tests::overview(1.0, 2)));
        assert_eq!((screen.trouble, screen.seen.now.uptime), (None, 1.0));
    }
}
