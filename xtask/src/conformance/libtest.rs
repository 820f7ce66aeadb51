//! What test programs print, read line by line.

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Passed,
    Failed,
    Ignored,
    /// It passed by doing nothing, and said why.
    Skipped,
}

/// One test, by its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tested {
    pub(crate) name: String,
    pub(crate) state: State,
}

/// Reads the output of one test program after the other. It has to be shown what passing tests print (`--show-output`, or
/// `--nocapture` with one thread): one that says `skipped:` has shown nothing.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    done: Vec<Tested>,
    /// First of those of the program that runs.
    program: usize,
    /// It has begun, and its result is not there yet.
    running: Option<(String, bool)>,
    /// Whose output is being shown.
    shown: Option<String>,
    /// In the output of tests that passed.
    successes: bool,
}

impl Reader {
    /// Takes a line. False if it is only output of a test that passed, which nobody wants to see.
    pub(crate) fn line(&mut self, line: &str) -> bool {
        if line.starts_with("test result: ") {
            self.end_of_program();
        } else if line == "successes:" {
            self.successes = true;
        } else if line == "failures:" {
            self.successes = false;
        } else if let Some((name, rest)) = line.strip_prefix("test ").and_then(|l| l.split_once(" ... ")) {
            let name = name.strip_suffix(" - should panic").unwrap_or(name).to_owned();
            match state(rest) {
                Some(state) => self.done.push(Tested { name, state }),
                None => self.running = Some((name, rest.starts_with("skipped:"))),
            }
        } else if let Some(name) = line.strip_prefix("---- ").and_then(|l| l.strip_suffix(" stdout ----")) {
            self.shown = Some(name.to_owned());
        } else if line.starts_with("skipped:") {
            self.skipped();
        } else if let Some(state) = state(line)
            && let Some((name, skipped)) = self.running.take()
        {
            let state = if skipped && state == State::Passed { State::Skipped } else { state };
            self.done.push(Tested { name, state });
        }
        !self.successes
    }

    /// All tests that came to an end.
    pub(crate) fn finish(self) -> Vec<Tested> {
        self.done
    }

    fn skipped(&mut self) {
        if let Some((_, skipped)) = &mut self.running {
            *skipped = true;
            return;
        }
        let ours = self.done.get_mut(self.program..).unwrap_or_default();
        let shown = self.shown.as_ref();
        if let Some(test) = ours.iter_mut().find(|t| Some(&t.name) == shown && t.state == State::Passed) {
            test.state = State::Skipped;
        }
    }

    fn end_of_program(&mut self) {
        let done = std::mem::take(&mut self.done);
        *self = Self { program: done.len(), done, ..Self::default() };
    }
}

fn state(text: &str) -> Option<State> {
    match text {
        "ok" => Some(State::Passed),
        "FAILED" => Some(State::Failed),
        _ if text == "ignored" || text.starts_with("ignored, ") => Some(State::Ignored),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, State)> {
        let mut reader = Reader::default();
        text.lines().for_each(|line| {
            reader.line(line);
        });
        reader.finish().into_iter().map(|t| (t.name, t.state)).collect()
    }

    #[test]
    fn results_are_read() {
        let text = "running 5 tests\ntest a::g1_x ... ok\ntest g2_y ... FAILED\ntest g3_z ... ignored\n\
                    test g4 ... ignored, no root\ntest g5 - should panic ... ok\n\
                    test result: FAILED. 2 passed; 1 failed; 2 ignored";
        let expected = [
            ("a::g1_x", State::Passed),
            ("g2_y", State::Failed),
            ("g3_z", State::Ignored),
            ("g4", State::Ignored),
            ("g5", State::Passed),
        ];
        assert_eq!(read(text), expected.map(|(n, s)| (n.to_owned(), s)));
    }

    #[test]
    fn who_says_skipped_has_not_passed() {
        let text = "test a ... ok\ntest b ... ok\n\nsuccesses:\n\n---- a stdout ----\nskipped: no root\n\n\
                    ---- b stdout ----\nnothing is skipped: all is there\n\n\nsuccesses:\n    a\n    b\n\n\
                    test result: ok. 2 passed\n\
                    test a ... ok\n\ntest result: ok.";
        let states: Vec<_> = read(text).into_iter().map(|(_, state)| state).collect();
        assert_eq!(states, [State::Skipped, State::Passed, State::Passed]);
    }

    #[test]
    fn output_may_come_between_a_name_and_its_result() {
        let text = "test a ... skipped: no root\nok\ntest b ... booting\nmore\nok\ntest c ... booting\nskipped: why\nok\n\
                    test d ... x\nFAILED\ntest e ... it hangs";
        let expected = [("a", State::Skipped), ("b", State::Passed), ("c", State::Skipped), ("d", State::Failed)];
        assert_eq!(read(text), expected.map(|(n, s)| (n.to_owned(), s)));
    }

    #[test]
    fn what_passing_tests_print_is_not_shown_again() {
        let mut reader = Reader::default();
        let text = "test a ... ok\nsuccesses:\n---- a stdout ----\nwords\nfailures:\n---- b stdout ----\nwhy";
        let shown: Vec<_> = text.lines().filter(|line| reader.line(line)).collect();
        assert_eq!(shown, ["test a ... ok", "failures:", "---- b stdout ----", "why"]);
    }
}
