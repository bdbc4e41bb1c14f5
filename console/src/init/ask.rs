//! Asking the person at the terminal, where there is one.

use anyhow::Context;
use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    str::FromStr,
};

/// Who answers questions.
pub trait Person {
    /// Asks; `None` where nobody is there to answer. An answer has no white space around it and may be empty.
    fn ask(&mut self, question: &str) -> anyhow::Result<Option<String>>;

    /// Tells something between questions.
    fn tell(&mut self, text: &str);
}

/// The one at the terminal.
#[derive(Debug)]
pub struct AtTerminal;

/// A script runs this program.
#[derive(Debug)]
pub struct Nobody;

/// The person at the terminal, unless input or output is no terminal or a program wants the answer.
pub fn person(json: bool) -> Box<dyn Person> {
    let there = !json && io::stdin().is_terminal() && io::stderr().is_terminal();
    if there { Box::new(AtTerminal) } else { Box::new(Nobody) }
}

impl Person for AtTerminal {
    fn ask(&mut self, question: &str) -> anyhow::Result<Option<String>> {
        let mut err = io::stderr().lock();
        write!(err, "{question} ").and_then(|()| err.flush()).context("ask")?;
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer).context("read the answer")?;
        anyhow::ensure!(read > 0, "the input ended at a question; nothing more is done");
        Ok(Some(answer.trim().to_owned()))
    }

    fn tell(&mut self, text: &str) {
        // Who closed the terminal is not there to be told.
        let _ = writeln!(io::stderr(), "{text}");
    }
}

impl Person for Nobody {
    fn ask(&mut self, _question: &str) -> anyhow::Result<Option<String>> {
        Ok(None)
    }

    fn tell(&mut self, _text: &str) {}
}

/// Asks until the answer is a `T`; an empty answer means `default`, where there is one.
pub fn ask_for<T: FromStr + Clone>(
    person: &mut dyn Person,
    question: &str,
    default: Option<&T>,
) -> anyhow::Result<Option<T>>
where
    T::Err: Display,
{
    loop {
        let Some(answer) = person.ask(question)? else { return Ok(None) };
        match (answer.parse::<T>(), default) {
            (_, Some(default)) if answer.is_empty() => return Ok(Some(default.clone())),
            (Ok(value), _) => return Ok(Some(value)),
            (Err(error), _) => person.tell(&format!("  {error}")),
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Answers from a list, and keeps what it was asked.
    #[derive(Debug, Default)]
    pub(crate) struct Scripted {
        pub(crate) answers: Vec<&'static str>,
        pub(crate) asked: Vec<String>,
    }

    impl Person for Scripted {
        fn ask(&mut self, question: &str) -> anyhow::Result<Option<String>> {
            anyhow::ensure!(!self.answers.is_empty(), "no answer is left for: {question}");
            self.asked.push(question.to_owned());
            Ok(Some(self.answers.remove(0).to_owned()))
        }

        fn tell(&mut self, text: &str) {
            self.asked.push(text.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::Scripted, *};
    use atlas_model::Role;

    #[test]
    fn a_wrong_answer_is_explained_and_asked_for_again() {
        let mut person = Scripted { answers: vec!["king", "PRI"], ..Scripted::default() };
        assert_eq!(ask_for::<Role>(&mut person, "Role?", None).unwrap(), Some(Role::Pri));
        assert!(person.asked[1].contains("'king' is not a role"), "{:?}", person.asked);
    }

    #[test]
    fn an_empty_answer_is_the_default_and_nobody_gives_none() {
        let mut person = Scripted { answers: vec![""], ..Scripted::default() };
        assert_eq!(ask_for(&mut person, "Role?", Some(&Role::Sec(1))).unwrap(), Some(Role::Sec(1)));
        assert_eq!(ask_for::<Role>(&mut Nobody, "Role?", Some(&Role::Pri)).unwrap(), None);
    }
}
