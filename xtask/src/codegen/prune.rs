//! Reduction of a descriptor set to what a list of root messages needs.
//!
//! A top-level message or enum is either kept with all of its fields and nested types, or removed. Removing a field from a
//! message would make decoding skip it silently, so that a policy would be lost instead of refused.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumOptions, FieldOptions, FileDescriptorProto, FileDescriptorSet,
    MessageOptions, ServiceDescriptorProto,
};

use super::Error;

/// File and position of each top-level type, by the full name of the type and of everything nested in it.
type Index<'a> = BTreeMap<String, (usize, TopLevel<'a>)>;

#[derive(Clone, Copy)]
enum TopLevel<'a> {
    Message(&'a DescriptorProto),
    Enum(&'a EnumDescriptorProto),
}

impl TopLevel<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Message(message) => message.name(),
            Self::Enum(item) => item.name(),
        }
    }

    /// Full names, with their leading dot, of the types that fields refer to.
    fn references(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut pending = match self {
            Self::Message(message) => vec![*message],
            Self::Enum(_) => vec![],
        };
        while let Some(message) = pending.pop() {
            pending.extend(&message.nested_type);
            names.extend(message.field.iter().filter_map(|field| field.type_name.clone()));
        }
        names
    }
}

/// The types to keep, and the imports of their files.
#[derive(Default)]
struct Kept {
    /// File and name of each top-level type.
    items: BTreeSet<(usize, String)>,
    imports: BTreeMap<usize, BTreeSet<usize>>,
}

impl Kept {
    /// Adds all types that `roots` refer to, directly or through others.
    fn reach(index: &Index<'_>, roots: &[&str]) -> Result<Self, Error> {
        let mut kept = Self::default();
        let mut pending: Vec<(Option<usize>, String)> = roots.iter().map(|root| (None, format!(".{root}"))).collect();
        while let Some((from, name)) = pending.pop() {
            let (file, item) = index.get(&name).ok_or_else(|| format!("{name}: no such message"))?;
            if let Some(from) = from.filter(|from| from != file) {
                kept.imports.entry(from).or_default().insert(*file);
            }
            if kept.items.insert((*file, item.name().to_owned())) {
                pending.extend(item.references().into_iter().map(|name| (Some(*file), name)));
            }
        }
        Ok(kept)
    }

    fn imports_of(&self, file: usize) -> impl Iterator<Item = usize> {
        self.imports.get(&file).into_iter().flatten().copied()
    }

    /// The files in topological order: a file follows all files that it imports.
    fn files_in_import_order(&self, all: &FileDescriptorSet) -> Vec<usize> {
        fn visit(kept: &Kept, file: usize, order: &mut Vec<usize>) {
            if !order.contains(&file) {
                kept.imports_of(file).for_each(|import| visit(kept, import, order));
                order.push(file);
            }
        }
        let mut by_name: Vec<usize> = self.items.iter().map(|(file, _)| *file).collect();
        by_name.dedup();
        by_name.sort_by_key(|file| all.file[*file].name());
        let mut order = Vec::new();
        by_name.into_iter().for_each(|file| visit(self, file, &mut order));
        order
    }
}

/// The part of `all` that the messages in `roots` refer to, without services, extensions and options that do not affect
/// the wire format.
pub(super) fn prune(all: &FileDescriptorSet, roots: &[&str]) -> Result<FileDescriptorSet, Error> {
    let kept = Kept::reach(&index(all), roots)?;
    let file = kept.files_in_import_order(all).into_iter().map(|file| strip(all, file, &kept)).collect();
    Ok(FileDescriptorSet { file })
}

/// Adds `services` to `kept`, for the generation of code. Their files need not import the messages for that.
pub(super) fn add_services(
    mut kept: FileDescriptorSet,
    all: &FileDescriptorSet,
    services: &[&str],
) -> Result<FileDescriptorSet, Error> {
    for name in services {
        let is_named = |file: &FileDescriptorProto, service: &ServiceDescriptorProto| {
            format!("{}.{}", file.package(), service.name()) == *name
        };
        let (file, service) = all
            .file
            .iter()
            .find_map(|file| Some((file, file.service.iter().find(|service| is_named(file, service))?)))
            .ok_or_else(|| format!("{name}: no such service"))?;
        kept.file.push(FileDescriptorProto {
            name: Some(format!("{}/service", file.name())),
            package: file.package.clone(),
            service: vec![service.clone()],
            syntax: file.syntax.clone(),
            ..FileDescriptorProto::default()
        });
    }
    Ok(kept)
}

fn index(all: &FileDescriptorSet) -> Index<'_> {
    let mut index = Index::new();
    for (position, file) in all.file.iter().enumerate() {
        for item in &file.enum_type {
            index.insert(format!(".{}.{}", file.package(), item.name()), (position, TopLevel::Enum(item)));
        }
        for top in &file.message_type {
            let mut pending = vec![(format!(".{}.{}", file.package(), top.name()), top)];
            while let Some((name, message)) = pending.pop() {
                let nested = message.nested_type.iter().map(|nested| (format!("{name}.{}", nested.name()), nested));
                pending.extend(nested);
                for item in &message.enum_type {
                    index.insert(format!("{name}.{}", item.name()), (position, TopLevel::Message(top)));
                }
                index.insert(name, (position, TopLevel::Message(top)));
            }
        }
    }
    index
}

fn strip(all: &FileDescriptorSet, position: usize, kept: &Kept) -> FileDescriptorProto {
    let file = &all.file[position];
    let is_kept = |name: &str| kept.items.contains(&(position, name.to_owned()));
    let mut dependency: Vec<String> =
        kept.imports_of(position).map(|import| all.file[import].name().to_owned()).collect();
    dependency.sort();
    FileDescriptorProto {
        name: file.name.clone(),
        package: file.package.clone(),
        dependency,
        message_type: file.message_type.iter().filter(|message| is_kept(message.name())).map(strip_message).collect(),
        enum_type: file.enum_type.iter().filter(|item| is_kept(item.name())).map(strip_enum).collect(),
        syntax: file.syntax.clone(),
        ..FileDescriptorProto::default()
    }
}

/// The full names of all messages of `set`, also of nested ones.
pub(super) fn message_names(set: &FileDescriptorSet) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let outer = set.file.iter().flat_map(|file| file.message_type.iter().map(|message| (file.package(), message)));
    let mut pending: Vec<(String, &DescriptorProto)> =
        outer.map(|(package, message)| (package.to_owned(), message)).collect();
    while let Some((parent, message)) = pending.pop() {
        let name = format!("{parent}.{}", message.name());
        pending.extend(message.nested_type.iter().map(|nested| (name.clone(), nested)));
        names.insert(name);
    }
    names
}

fn strip_message(message: &DescriptorProto) -> DescriptorProto {
    let mut message = message.clone();
    message.extension.clear();
    message.options = message
        .options
        .filter(|options| options.map_entry())
        .map(|_| MessageOptions { map_entry: Some(true), ..MessageOptions::default() });
    for field in &mut message.field {
        let packed = field.options.as_ref().and_then(|options| options.packed);
        field.options = packed.map(|packed| FieldOptions { packed: Some(packed), ..FieldOptions::default() });
    }
    message.nested_type = message.nested_type.iter().map(strip_message).collect();
    message.enum_type = message.enum_type.iter().map(strip_enum).collect();
    message
}

fn strip_enum(item: &EnumDescriptorProto) -> EnumDescriptorProto {
    let mut item = item.clone();
    item.options = item
        .options
        .filter(|options| options.allow_alias())
        .map(|_| EnumOptions { allow_alias: Some(true), ..EnumOptions::default() });
    for value in &mut item.value {
        value.options = None;
    }
    item
}
