//! The operator's image from its program: `make image` calls this.

use std::path::PathBuf;

use clap::Parser;
use flate2::Compression;
use jiff::Timestamp;
use operator_image::{Image, Result, Rootfs, bill_of_materials};

/// Makes the operator's container image, without a container engine
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// An archive in the OCI image layout; prints the digest of the image
    Archive {
        /// The operator's program
        #[arg(long)]
        program: PathBuf,
        /// Its name for who imports it: REPOSITORY:TAG
        #[arg(long)]
        name: String,
        /// When it was made, in seconds since 1970: those of the commit
        #[arg(long, env = "SOURCE_DATE_EPOCH")]
        created: i64,
        /// A label, as org.opencontainers.image.version=1.2.3
        #[arg(long, value_parser = label)]
        label: Vec<(String, String)>,
        /// The archive
        #[arg(long)]
        out: PathBuf,
    },
    /// A folder with what is in the image, for a Dockerfile
    Rootfs {
        /// The operator's program
        #[arg(long)]
        program: PathBuf,
        /// The folder
        #[arg(long)]
        out: PathBuf,
    },
    /// The bill of materials (CycloneDX) of the program, which `cargo auditable` has built, and of its libraries
    Sbom {
        /// The operator's program
        #[arg(long)]
        program: PathBuf,
        /// The document
        #[arg(long)]
        out: PathBuf,
    },
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a label is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn main() -> Result<()> {
    match Args::parse().what {
        What::Archive { program, name, created, label, out } => {
            let mut image = Image::of_operator(&program, &name)?;
            image.created = Timestamp::from_second(created)?;
            image.labels = label.into_iter().collect();
            image.compression = Compression::best();
            #[expect(clippy::print_stdout, reason = "the digest is what this program is asked for")]
            {
                println!("{}", image.write(&out)?);
            }
        }
        What::Rootfs { program, out } => Rootfs::of_program(&program, "conjur-operator")?.write(&out)?,
        What::Sbom { program, out } => {
            let libraries = Rootfs::of_program(&program, "conjur-operator")?.libraries;
            let mut document = serde_json::to_vec_pretty(&bill_of_materials(&program, &libraries)?)?;
            document.push(b'\n');
            std::fs::write(out, document)?;
        }
    }
    Ok(())
}
