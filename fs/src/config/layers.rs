//! Combines the sources of options: TOML file < environment < `-o` < long flags. Values stay text here.

use super::error::{Error, Origin, Place};
use super::table::{self, Kind, Spec};
use super::words::{self, Meaning};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// What the command line gave.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// `--name value`, by the table's names.
    pub flags: Vec<(&'static str, String)>,
    /// The arguments of `-o`, each a list with commas.
    pub dash_o: Vec<String>,
    /// Pass over unknown `-o` words, as mount(8) asks with `-s`.
    pub sloppy: bool,
}

/// What lies outside the process: variables and files.
pub struct World<'a> {
    /// Reads an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Reads a text file.
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
}

/// One value per option, the strongest.
#[derive(Debug, Default)]
pub struct Layers {
    values: BTreeMap<&'static str, (String, Origin)>,
}

impl Layers {
    /// Combines all sources.
    pub fn merge(input: &Input, world: &World<'_>) -> Result<Self, Error> {
        let dash_o = parse_dash_o(&input.dash_o, input.sloppy)?;
        let environment = table::OPTIONS.iter().filter_map(|option| {
            let variable = option.env?;
            let value = (world.variable)(variable).filter(|value| !value.is_empty())?;
            Some((option.name, (value, Origin::Env(variable))))
        });
        let mut values: BTreeMap<_, _> = environment.collect();
        values.extend(dash_o.into_iter().map(|(name, value)| (name, (value, Origin::DashO))));
        values.extend(input.flags.iter().map(|(name, value)| (*name, (value.clone(), Origin::Flag))));
        if let Some((file, _)) = values.get("config") {
            let file = PathBuf::from(file);
            for (name, value) in parse_file(&file, world)? {
                values.entry(name).or_insert_with(|| (value, Origin::File(file.clone())));
            }
        }
        Ok(Self { values })
    }

    /// The value of an option and where it was given; `None` leaves the default.
    pub fn get(&self, name: &str) -> Option<(&str, Place)> {
        let (value, origin) = self.values.get(name)?;
        Some((value, Place { name: name.to_owned(), origin: origin.clone() }))
    }
}

fn parse_dash_o(lists: &[String], sloppy: bool) -> Result<BTreeMap<&'static str, String>, Error> {
    let mut values: BTreeMap<&'static str, String> = BTreeMap::new();
    for word in lists.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|word| !word.is_empty()) {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let place = || Place { name: name.to_owned(), origin: Origin::DashO };
        let (name, value) = match (table::find(name), words::find(name)) {
            (Some(option), _) => (option.name, option_value(option, value, place())?),
            (None, Some(Meaning::Set(name, value))) => (name, value.to_owned()),
            (None, Some(Meaning::Ignore)) => continue,
            (None, Some(Meaning::Refuse(why))) => {
                return Err(Error::Refused { place: place(), reason: why.to_owned() });
            }
            (None, None) if sloppy => continue,
            (None, None) => return Err(unknown(place())),
        };
        if let Some(first) = values.insert(name, value.clone()).filter(|first| *first != value) {
            let place = Place { name: name.to_owned(), origin: Origin::DashO };
            return Err(Error::Twice { place, first, second: value });
        }
    }
    Ok(values)
}

fn option_value(option: &Spec, value: Option<&str>, place: Place) -> Result<String, Error> {
    match (value, option.kind) {
        (Some(value), _) => Ok(value.to_owned()),
        (None, Kind::Switch) => Ok("true".to_owned()),
        (
            None,
            Kind::Text
            | Kind::Path
            | Kind::Word(_)
            | Kind::Size
            | Kind::Share
            | Kind::Time
            | Kind::Mode
            | Kind::Number,
        ) => Err(Error::NoValue { place }),
    }
}

fn parse_file(path: &Path, world: &World<'_>) -> Result<Vec<(&'static str, String)>, Error> {
    let wrong = |reason: String| Error::File { path: path.display().to_string(), reason };
    let text = (world.read)(path).map_err(|error| wrong(error.to_string()))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
    let mut values = Vec::with_capacity(table.len());
    for (name, value) in table {
        let place = Place { name: name.clone(), origin: Origin::File(path.to_owned()) };
        let option = table::find(&name).ok_or_else(|| unknown(place.clone()))?;
        if option.name == "config" {
            return Err(Error::Refused { place, reason: "a file cannot name another".to_owned() });
        }
        values.push((option.name, toml_text(option, value, place)?));
    }
    values.sort();
    match values.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        None => Ok(values),
        Some(pair) => Err(Error::Twice {
            place: Place { name: pair[0].0.to_owned(), origin: Origin::File(path.to_owned()) },
            first: pair[0].1.clone(),
            second: pair[1].1.clone(),
        }),
    }
}

/// TOML's own types where they cannot be mistaken: an integer mode would be decimal, so modes are strings.
fn toml_text(option: &Spec, value: toml::Value, place: Place) -> Result<String, Error> {
    let counts = matches!(option.kind, Kind::Number | Kind::Size | Kind::Share | Kind::Time);
    match value {
        toml::Value::String(text) => Ok(text),
        toml::Value::Boolean(value) if option.kind == Kind::Switch => Ok(value.to_string()),
        toml::Value::Integer(value) if counts => Ok(value.to_string()),
        other @ (toml::Value::Boolean(_)
        | toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Datetime(_)
        | toml::Value::Array(_)
        | toml::Value::Table(_)) => Err(Error::Value {
            place,
            value: other.to_string(),
            expected: format!("a string for {}", option.value),
            nearest: None,
        }),
    }
}

fn unknown(place: Place) -> Error {
    let names = table::OPTIONS.iter().map(|option| option.name);
    let nearest = table::nearest(&place.name, names).map(str::to_owned);
    Error::Unknown { place, nearest }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(input: &Input, env: &[(&str, &str)], file: &str) -> Result<Layers, Error> {
        let variable =
            |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let read = |_: &Path| Ok(file.to_owned());
        Layers::merge(input, &World { variable: &variable, read: &read })
    }

    fn dash_o(list: &str) -> Result<Layers, Error> {
        merge(&Input { dash_o: vec![list.to_owned()], ..Input::default() }, &[], "")
    }

    fn value<'a>(layers: &'a Layers, name: &str) -> Option<&'a str> {
        layers.get(name).map(|(value, _)| value)
    }

    #[test]
    fn the_stronger_source_wins() {
        let file =
            "cache-size = '1g'\ncache-dir = '/file'\nregion = 'file'\nendpoint = 'file'\nmax-requests = 4";
        let env = [("TARN_CACHE_DIR", "/env"), ("TARN_ENDPOINT", "env"), ("TARN_CACHE_SIZE", "2g")];
        let input = Input {
            flags: vec![("config", "x.toml".to_owned()), ("endpoint", "flag".to_owned())],
            dash_o: vec!["cache_dir=/o,endpoint=o".to_owned()],
            sloppy: false,
        };
        let layers = merge(&input, &env, file).expect("valid");
        let got = ["max-requests", "region", "cache-size", "cache-dir", "endpoint"]
            .map(|name| value(&layers, name));
        assert_eq!(got, [Some("4"), Some("file"), Some("2g"), Some("/o"), Some("flag")]);
    }

    #[test]
    fn a_whole_fstab_line() {
        let layers = dash_o("rw,_netdev,nofail,noatime,x-systemd.automount,allow_other,uid=1000,user=joe")
            .expect("valid");
        assert_eq!(value(&layers, "allow-other"), Some("true"));
        assert_eq!(value(&layers, "uid"), Some("1000"));
        assert_eq!(value(&layers, "read-only"), Some("false"));
    }

    #[test]
    fn unknown_names_name_the_nearest() {
        let text = dash_o("cachesize=1g").expect_err("unknown").to_string();
        assert_eq!(text, "-o cachesize: unknown option; did you mean \"cache-size\"?");
        let input = Input { flags: vec![("config", "/etc/t.toml".to_owned())], ..Input::default() };
        let text = merge(&input, &[], "regoin = 'x'").expect_err("unknown").to_string();
        assert_eq!(text, "/etc/t.toml: regoin: unknown option; did you mean \"region\"?");
    }

    #[test]
    fn sloppy_passes_over_unknown_words_only() {
        let input = |list: &str| Input { dash_o: vec![list.to_owned()], sloppy: true, ..Input::default() };
        assert!(merge(&input("big_writes,iocharset=utf8"), &[], "").is_ok());
        assert!(merge(&input("sync"), &[], "").is_err());
    }

    #[test]
    fn two_different_values_are_refused_and_equal_ones_are_not() {
        assert!(matches!(dash_o("ro,rw"), Err(Error::Twice { .. })));
        assert!(matches!(dash_o("uid=1,uid=2"), Err(Error::Twice { .. })));
        assert!(dash_o("ro,ro,read_only").is_ok());
        let input = Input { flags: vec![("config", "f".to_owned())], ..Input::default() };
        assert!(matches!(merge(&input, &[], "part-size=8\npart_size=9"), Err(Error::Twice { .. })));
    }

    #[test]
    fn a_value_is_needed_unless_it_is_a_switch() {
        assert!(matches!(dash_o("uid"), Err(Error::NoValue { .. })));
        assert_eq!(value(&dash_o("anonymous").expect("switch"), "anonymous"), Some("true"));
    }

    #[test]
    fn toml_takes_modes_as_text_only() {
        let input = Input { flags: vec![("config", "f".to_owned())], ..Input::default() };
        assert!(merge(&input, &[], "umask = '022'\nread-only = true\npart-size = 8388608").is_ok());
        for bad in ["umask = 22", "region = true", "region = ['a']", "config = 'g'", "not toml"] {
            assert!(merge(&input, &[], bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_source_can_set_a_key() {
        for name in ["access-key", "secret-key", "secret_access_key", "password"] {
            assert!(dash_o(&format!("{name}=x")).is_err(), "{name}");
        }
    }
}
