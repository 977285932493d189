// Runs Flux scripts on points, without InfluxDB 2, which no Debian package has.
//
// InfluxData's own parser and type checker read a script (@influxdata/flux-lsp-browser, as compiled for
// editors); what it makes of the script is run here, for the functions that the dashboards use, as their
// documentation says. A name that no series has, or a wrong type, ends in no rows or in an error.
//
// Standard input: {"points": [{measurement, tags, fields, time}], "scripts": [text]}, times in seconds.
// Standard output: for each script the number of its rows, and of those whose last column is neither
// missing nor 0; or a text that says what is wrong.
//   node flux.mjs FOLDER-OF-THE-PACKAGE
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const folder = process.argv[2];
const read = (name) => fs.readFileSync(path.join(folder, name));

// The package is made for bundlers, which load WebAssembly by `import`. Here it is loaded by hand.
const glue = read('flux-lsp-browser_bg.js').toString();
const early = glue.replace(/^(import \* as wasm|cached\w+ = new ).*$/gm, '');
const late = glue.match(/^cached\w+ = new .*$/gm).join(' ');
const temporary = fs.mkdtempSync(path.join(os.tmpdir(), 'flux-'));
const file = path.join(temporary, 'glue.mjs');
fs.writeFileSync(file, `let wasm;\n${early}\nexport function start(exports) { wasm = exports; ${late} }\n`);
const checker = await import(file);
fs.rmSync(temporary, { recursive: true });
const imports = { './flux-lsp-browser_bg.js': checker };
const { instance } = await WebAssembly.instantiate(read('flux-lsp-browser_bg.wasm'), imports);
checker.start(instance.exports);

const { points, scripts } = JSON.parse(fs.readFileSync(0));

// A stream is a list of tables; a table is its group key and its rows.
function grouped(rows, keyOf) {
  const tables = new Map();
  for (const row of rows) {
    const key = keyOf(row);
    const id = JSON.stringify(key);
    if (!tables.has(id)) tables.set(id, { key, rows: [] });
    tables.get(id).rows.push(row);
  }
  return [...tables.values()];
}
const pick = (row, columns) => Object.fromEntries(columns.filter((c) => c in row).map((c) => [c, row[c]]));
const without = (row, columns) => Object.fromEntries(Object.entries(row).filter(([c]) => !columns.includes(c)));
const rowsOf = (tables) => tables.flatMap((table) => table.rows);
const eachTable = (tables, change) => tables.map(({ key, rows }) => ({ key, rows: change(rows, key) }));

function need(rows, column) {
  for (const row of rows) if (!(column in row)) throw new Error(`there is no column ${column}`);
}
function numbers(rows) {
  need(rows, '_value');
  const values = rows.map((row) => row._value);
  if (values.some((value) => typeof value !== 'number')) throw new Error('a value is no number');
  return values;
}
const sum = (values) => values.reduce((a, b) => a + b, 0);
const aggregate = (number) => (tables) => eachTable(tables, (rows, key) => [{ ...key, _value: number(rows) }]);

// All points; no function changes the rows that it is given.
const everything = grouped(
  points.flatMap(({ measurement, tags, fields, time }) =>
    Object.entries(fields).map(([_field, _value]) => ({
      ...tags, _measurement: measurement, _field, _time: time, _value,
    })),
  ),
  (row) => without(row, ['_time', '_value']),
);

const functions = {
  from: () => everything,
  range: (tables, { start, stop }) => eachTable(tables, (rows) => rows.filter((r) => start <= r._time && r._time < stop)),
  filter: (tables, { fn }) =>
    eachTable(tables, (rows) => rows.filter((r) => fn({ r }) === true)).filter(({ rows }) => rows.length),
  group: (tables, { columns = [] }) => grouped(rowsOf(tables), (row) => pick(row, columns)),
  count: aggregate((rows) => rows.length),
  sum: aggregate((rows) => sum(numbers(rows))),
  mean: aggregate((rows) => sum(numbers(rows)) / rows.length),
  max: (tables) =>
    eachTable(tables, (rows) => [rows[numbers(rows).reduce((at, value, i, all) => (value > all[at] ? i : at), 0)]]),
  distinct: (tables, { column }) =>
    eachTable(tables, (rows, key) => {
      need(rows, column);
      return [...new Set(rows.map((row) => row[column]))].map((_value) => ({ ...key, _value }));
    }),
  aggregateWindow: (tables, { every, fn, column = '_value' }) =>
    tables.map(({ key, rows }) => {
      const windows = grouped(rows, (row) => ({ ...key, _time: Math.ceil(row._time / every) * every }));
      return { key, rows: rowsOf(fn({ tables: windows, column })) };
    }),
  rename: (tables, { columns, fn }) =>
    eachTable(tables, (rows) => {
      for (const column of Object.keys(columns ?? {})) need(rows, column);
      const name = (column) => (fn ? fn({ column }) : (columns[column] ?? column));
      return rows.map((row) => Object.fromEntries(Object.entries(row).map(([c, value]) => [name(c), value])));
    }),
  keep: (tables, { columns }) => eachTable(tables, (rows) => rows.map((row) => pick(row, columns))),
  pivot: (tables, { rowKey, columnKey, valueColumn }) => {
    const gone = [...columnKey, valueColumn];
    const wide = grouped(rowsOf(tables), (row) => without(row, gone));
    const joined = wide.map(({ key, rows }) =>
      Object.assign({}, key, ...rows.map((row) => ({ [columnKey.map((c) => row[c]).join('_')]: row[valueColumn] }))),
    );
    const notInKey = [...rowKey, ...new Set(rowsOf(tables).map((row) => row._field))];
    return grouped(joined, (row) => without(row, notInKey));
  },
  sort: (tables, { columns, desc }) =>
    eachTable(tables, (rows) => {
      for (const column of columns) need(rows, column);
      const order = (a, b) => columns.map((c) => (a[c] < b[c] ? -1 : a[c] > b[c] ? 1 : 0)).find((x) => x) ?? 0;
      return [...rows].sort((a, b) => (desc ? order(b, a) : order(a, b)));
    }),
  limit: (tables, { n }) => eachTable(tables, (rows) => rows.slice(0, n)),
  'schema.tagValues': (_, { tag, predicate }) => {
    const found = rowsOf(functions.from()).filter((r) => predicate({ r }) === true && tag in r);
    return [{ key: {}, rows: [...new Set(found.map((row) => row[tag]))].map((_value) => ({ _value })) }];
  },
};

const UNITS = { s: 1, m: 60, h: 3600 };
const operators = {
  '==': (a, b) => a === b,
  '=~': (a, b) => b.test(a),
};

// A value of the syntax tree; `names` are the names in scope.
function value(node, names) {
  switch (node.type) {
    case 'PipeExpression':
      return call(node.call, names, value(node.argument, names));
    case 'CallExpression':
      return call(node, names);
    case 'FunctionExpression':
      return (given) => value(node.body, Object.assign(Object.create(names), given));
    case 'ParenExpression':
      return value(node.expression, names);
    case 'ConditionalExpression':
      return value(value(node.test, names) ? node.consequent : node.alternate, names);
    case 'LogicalExpression': {
      const left = value(node.left, names);
      const decided = node.operator === 'and' ? left !== true : left === true;
      return decided ? left : value(node.right, names);
    }
    case 'BinaryExpression': {
      const [left, right] = [value(node.left, names), value(node.right, names)];
      // A missing column is null, and so is what it is compared with.
      return left === undefined ? null : operators[node.operator](left, right);
    }
    case 'MemberExpression':
      return value(node.object, names)[node.property.name ?? node.property.value];
    case 'Identifier':
      if (node.name in names) return names[node.name];
      if (node.name in functions) return ({ tables }) => functions[node.name](tables, {});
      throw new Error(`this interpreter does not know ${node.name}`);
    case 'ObjectExpression':
      return object(node, names);
    case 'ArrayExpression':
      return node.elements.map((element) => value(element.expression ?? element, names));
    case 'RegexpLiteral':
      return (node.compiled ??= new RegExp(node.value.replace(/^\/|\/$/g, '')));
    case 'IntegerLiteral':
      return Number(node.value);
    case 'StringLiteral':
      return node.value;
    case 'DurationLiteral':
      return node.values.reduce((all, { magnitude, unit }) => all + magnitude * UNITS[unit], 0);
    case 'DateTimeLiteral':
      return Date.parse(node.value) / 1000;
    default:
      throw new Error(`this interpreter does not know ${node.type}`);
  }
}
const object = (node, names) =>
  Object.fromEntries(node.properties.map((p) => [p.key.name ?? p.key.value, value(p.value, names)]));

function call(node, names, tables) {
  const { callee } = node;
  const name = callee.type === 'MemberExpression' ? `${callee.object.name}.${callee.property.name}` : callee.name;
  if (!(name in functions)) throw new Error(`this interpreter does not know ${name}`);
  return functions[name](tables, node.arguments?.length ? object(node.arguments[0], names) : {});
}

function run(script) {
  const flux = new checker.Flux(script);
  if (!flux.is_valid()) return 'not valid Flux';
  const names = { true: true, false: false };
  let tables = [];
  try {
    for (const statement of flux.ast().files[0].body) {
      if (statement.type === 'OptionStatement') {
        names[statement.assignment.id.name] = value(statement.assignment.init, names);
      } else {
        tables = value(statement.expression, names);
      }
    }
  } catch (error) {
    return String(error.message);
  }
  const values = rowsOf(tables).map((row) => Object.values(row).at(-1));
  return [values.length, values.filter((value) => value !== undefined && value !== 0).length];
}

process.stdout.write(JSON.stringify(scripts.map(run)));
