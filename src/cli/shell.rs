//! `completions` and `man`: what shells and `man` show of this tool, made from its arguments.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::failure::{Failure, Result};
use crate::output::Output;

/// Print a script by which a shell completes this tool's arguments
#[derive(clap::Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Print the manual page, or that of a sub-command
#[derive(clap::Args)]
pub struct ManArgs {
    /// The sub-command
    command: Option<String>,
}

/// Prints the script of a shell.
pub fn completions<C: CommandFactory>(args: &CompletionsArgs) -> Result {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut C::command(), "chanlog", &mut script);
    print(&script)
}

/// Prints a page for `man`.
pub fn man<C: CommandFactory>(args: &ManArgs) -> Result {
    let whole = C::command();
    let page = match &args.command {
        None => clap_mangen::Man::new(whole),
        Some(name) => {
            let found = whole.find_subcommand(name).cloned();
            let found = found.ok_or_else(|| Failure::told(format!("there is no command {name:?}")))?;
            clap_mangen::Man::new(found).title(format!("chanlog-{name}"))
        }
    };
    let mut text = Vec::new();
    page.render(&mut text)?;
    print(&text)
}

fn print(text: &[u8]) -> Result {
    let mut out = Output::new();
    out.raw(text)?;
    Ok(out.flush()?)
}
