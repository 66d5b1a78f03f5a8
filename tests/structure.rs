//! How the files of src/ hang together: stages import earlier ones only, and no files import each other in a circle. And
//! how tables are written everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, Expr, Item, ItemUse, Lit, Stmt, Type, UseTree};

use crate::docs::sources;

/// The folders of src/, in the order of the data flow. What stands on one line imports nothing of the others on it.
const STAGES: &[&[&str]] = &[
    &["yaml"],
    &["inventory", "render", "transport"],
    &["controls", "pki", "bundle", "lab"],
    &["facts"],
    &["api"],
    &["discovery"],
    &["desired"],
    &["checks", "runs"],
    &["plan"],
    &["apply", "impact"],
    &["verify"],
    &["report"],
    &["workflow"],
    &["cli"],
];

/// Lists whose length is a property of the thing itself: the file, the name, and why.
const OF_KNOWN_LENGTH: &[(&str, &str, &str)] = &[
    ("src/checks/cluster/network_policies.rs", "WAYS", "there are two directions"),
    ("src/desired/tests/trust.rs", "BESIDE", "taken apart into its two files"),
];

/// Paths that a file names outside its tests, as written.
#[derive(Default)]
struct Named(Vec<Vec<String>>);

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|a| {
        let is_test = |path: &syn::Path| path.is_ident("test");
        a.path().is_ident("cfg") && a.parse_args::<syn::Path>().is_ok_and(|p| is_test(&p))
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(i) => &i.attrs,
        Item::Enum(i) => &i.attrs,
        Item::Fn(i) => &i.attrs,
        Item::Impl(i) => &i.attrs,
        Item::Mod(i) => &i.attrs,
        Item::Static(i) => &i.attrs,
        Item::Struct(i) => &i.attrs,
        Item::Use(i) => &i.attrs,
        _ => &[],
    }
}

fn expand(tree: &UseTree, before: &[String], all: &mut Vec<Vec<String>>) {
    let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
    match tree {
        UseTree::Path(p) => expand(&p.tree, &with(&p.ident), all),
        UseTree::Name(n) => all.push(with(&n.ident)),
        UseTree::Rename(r) => all.push(with(&r.ident)),
        UseTree::Glob(_) => all.push(before.to_vec()),
        UseTree::Group(g) => g.items.iter().for_each(|t| expand(t, before, all)),
    }
}

impl<'ast> Visit<'ast> for Named {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    /// Who may see something is no import.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        expand(&item.tree, &[], &mut self.0);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.0.push(path.segments.iter().map(|s| s.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}

/// The files of src/ by their module path, and what each imports.
struct Tree {
    files: BTreeMap<Vec<String>, String>,
    /// Names that a `mod.rs` hands on, by module and name.
    handed_on: BTreeMap<(Vec<String>, String), Vec<String>>,
    named: BTreeMap<Vec<String>, Vec<Vec<String>>>,
}

impl Tree {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut tree =
            Self { files: BTreeMap::new(), handed_on: BTreeMap::new(), named: BTreeMap::new() };
        let mut dirs = vec![root.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                // A package of its own.
                if path.is_dir() && path != root.join("probe") {
                    dirs.push(path);
                } else if path.extension().is_some_and(|e| e == "rs") {
                    tree.add(&root, &path);
                }
            }
        }
        for (module, paths) in tree.named.clone() {
            if !tree.files[&module].ends_with("/mod.rs") {
                continue;
            }
            for path in paths {
                if let (Some(whole), Some(name)) = (tree.whole(&module, &path), path.last()) {
                    tree.handed_on.insert((module.clone(), name.clone()), whole);
                }
            }
        }
        tree
    }

    fn add(&mut self, root: &Path, path: &Path) {
        let name = path.strip_prefix(root).unwrap().with_extension("");
        let mut module: Vec<String> =
            name.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        if module.last().is_some_and(|m| m == "mod") {
            module.pop();
        }
        let is_test = |part: &String| part.ends_with("tests") || part == "testing";
        if module.iter().any(is_test) || module == ["main"] || module == ["lib"] {
            return;
        }
        let file = syn::parse_file(&std::fs::read_to_string(path).unwrap()).unwrap();
        let mut named = Named::default();
        named.visit_file(&file);
        self.files
            .insert(module.clone(), format!("src/{}", path.strip_prefix(root).unwrap().display()));
        self.named.insert(module, named.0);
    }

    /// A path from the top of the package; none for one of another package.
    fn whole(&self, module: &[String], path: &[String]) -> Option<Vec<String>> {
        let is_folder = self.files[module].ends_with("/mod.rs");
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([module, &path[1..]].concat()),
            "super" => {
                let ups = path.iter().take_while(|p| *p == "super").count();
                // Inside a module of the file, which is not followed here, it is the file itself.
                let base = module.len().checked_sub(ups)?;
                Some([&module[..base], &path[ups..]].concat())
            }
            first => {
                let child = [module, &[first.to_owned()]].concat();
                let known = is_folder || self.files.contains_key(&child);
                (known && self.files.contains_key(&child)).then(|| [module, path].concat())
            }
        }
    }

    /// The file that a path leads to.
    fn file_of(&self, path: &[String]) -> Option<&Vec<String>> {
        let (module, _) =
            (0..=path.len()).rev().find_map(|n| self.files.get_key_value(&path[..n]))?;
        let name = path.get(module.len());
        let on = name.and_then(|n| self.handed_on.get(&(module.clone(), n.clone())));
        match on {
            Some(whole) if whole != path => self.file_of(whole).or(Some(module)),
            _ => Some(module),
        }
    }

    /// What each file imports, `mod.rs` apart: it hands on and explains.
    fn imports(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let is_mod = |module: &Vec<String>| self.files[module].ends_with("/mod.rs");
        let mut imports = BTreeMap::new();
        for (module, paths) in self.named.iter().filter(|(m, _)| !is_mod(m)) {
            let whole = paths.iter().filter_map(|p| self.whole(module, p));
            let files: BTreeSet<&str> = whole
                .filter_map(|p| self.file_of(&p).cloned())
                .filter(|f| f != module && !is_mod(f))
                .map(|f| self.files[&f].as_str())
                .collect();
            imports.insert(self.files[module].as_str(), files);
        }
        imports
    }
}

fn stage(file: &str) -> Option<usize> {
    // A file beside the folder of its parts, as `yaml.rs`, belongs to it.
    let folder = file.strip_prefix("src/")?.split(['/', '.']).next()?;
    STAGES.iter().position(|s| s.contains(&folder))
}

#[test]
fn every_stage_imports_earlier_ones_only() {
    let tree = Tree::read();
    let imports = tree.imports();
    assert!(imports.len() > 200, "{} files were read", imports.len());
    let folders: BTreeSet<&str> = imports
        .keys()
        .filter_map(|f| f.strip_prefix("src/")?.split_once('/'))
        .map(|f| f.0)
        .collect();
    let known: BTreeSet<&str> = STAGES.concat().into_iter().collect();
    assert_eq!(folders, known, "a folder of src/ has no place among the stages");
    let mut back = Vec::new();
    for (file, names) in &imports {
        back.extend(
            names
                .iter()
                .filter(|other| stage(other) > stage(file))
                .map(|o| format!("{file} -> {o}")),
        );
    }
    assert!(back.is_empty(), "{back:#?}");
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let tree = Tree::read();
    let imports = tree.imports();
    let reached = |from: &str| {
        let (mut found, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(file) = next.pop() {
            for other in imports.get(file).into_iter().flatten() {
                if found.insert(*other) {
                    next.push(other);
                }
            }
        }
        found
    };
    let in_circle: Vec<&str> =
        imports.keys().copied().filter(|file| reached(file).contains(file)).collect();
    assert!(in_circle.is_empty(), "{in_circle:#?}");
}

/// Names of the tables of a file that say how long they are.
#[derive(Default)]
struct Counted(Vec<String>);

impl Counted {
    fn add(&mut self, name: &syn::Ident, of: &Type, value: &Expr) {
        if has_literal_length(of) && is_list(value) {
            self.0.push(name.to_string());
        }
    }
}

fn has_literal_length(of: &Type) -> bool {
    match of {
        Type::Reference(to) => has_literal_length(&to.elem),
        Type::Array(array) => {
            matches!(&array.len, Expr::Lit(len) if matches!(len.lit, Lit::Int(_)))
        }
        _ => false,
    }
}

fn is_list(value: &Expr) -> bool {
    match value {
        Expr::Reference(to) => is_list(&to.expr),
        Expr::Block(b) => matches!(b.block.stmts.last(), Some(Stmt::Expr(e, None)) if is_list(e)),
        _ => matches!(value, Expr::Array(_)),
    }
}

impl<'ast> Visit<'ast> for Counted {
    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.add(&item.ident, &item.ty, &item.expr);
        visit::visit_item_const(self, item);
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.add(&item.ident, &item.ty, &item.expr);
        visit::visit_item_static(self, item);
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.add(&item.ident, &item.ty, &item.expr);
        visit::visit_impl_item_const(self, item);
    }
}

/// Who adds a row to a table would have to count its rows.
#[test]
fn no_table_has_its_length_beside_it() {
    let mut counted = BTreeSet::new();
    for (file, text) in sources(&["src", "tests", "benches", "fuzz"]) {
        let mut names = Counted::default();
        names.visit_file(&syn::parse_file(&text).unwrap());
        counted.extend(names.0.into_iter().map(|name| (file.clone(), name)));
    }
    let known = OF_KNOWN_LENGTH.iter().map(|(file, name, _)| (file.to_string(), name.to_string()));
    let known: BTreeSet<_> = known.collect();
    let new: Vec<_> = counted.difference(&known).collect();
    assert!(new.is_empty(), "write `&[T]`, or say why not in OF_KNOWN_LENGTH: {new:#?}");
    let gone: Vec<_> = known.difference(&counted).collect();
    assert!(gone.is_empty(), "no such table is there any more: {gone:#?}");
}
