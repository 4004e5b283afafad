const page = document.getElementById('page');
const runs = DATA.runs;
const chosen = {sequence: 0, frame: 0};
const hasPictures = DATA.kinds.includes('run0');

page.append(el('h1', {}, runs.join(' vs. ')));
page.append(el('p', {class: 'note'}, DATA.title + '. Percent; changes are against the first run.'));
page.append(el('div', {class: 'tiles', id: 'scores'}, ...runs.map((name, index) =>
  el('div', {class: 'tile'}, el('b', {}, percent(DATA.scores[index]['J&F-Mean'])), el('span', {}, `J&F, ${name}`))),
  ...DATA.intervals.map((one, index) => el('div', {class: 'tile'},
    el('b', {}, change(one.difference)),
    el('span', {}, `${runs[index + 1]} – ${runs[0]}, 95 %: ${change(one.low)} to ${change(one.high)}`)))));

const names = Object.keys(DATA.scores[0]);
section('Scores', null, sortableTable('measures', [
  {name: 'measure', value: name => name},
  ...runs.map((run, index) => ({name: run, value: name => DATA.scores[index][name], show: percent})),
  ...runs.slice(1).map((run, index) => ({name: `${run} – ${runs[0]}`, show: change,
    mark: name => (name.endsWith('Decay') ? -1 : 1),
    value: name => difference(DATA.scores[0][name], DATA.scores[index + 1][name])})),
], names));

function difference(before, after) { return before === null || after === null ? null : after - before; }

function changeColumns(first) {
  return [
    {name: first, value: row => row[0]},
    ...runs.map((run, index) => ({name: run, value: row => row[index + 1], show: percent})),
    ...runs.slice(1).map((run, index) => ({name: `${run} – ${runs[0]}`, show: change, mark: () => 1,
      value: row => difference(row[1], row[index + 2])})),
  ];
}

const all = DATA.sequences_of_runs;
const frames = () => DATA.shown[chosen.sequence];
const slider = el('input', {type: 'range', class: 'frame', id: 'frame', min: 0, value: 0,
  'aria-label': 'frame', oninput: () => showFrame(Number(slider.value))});
const opacity = el('input', {type: 'range', id: 'opacity', min: 0, max: 1, step: 0.05, value: 0.55,
  oninput: () => showFrame(chosen.frame)});
const menu = el('select', {id: 'sequence', onchange: () => show(all[0][menu.value].name)},
  ...all[0].map((one, index) => el('option', {value: index}, one.name)));
const panels = el('div', {class: 'panels', id: 'panels'});
const curves = el('div', {class: 'charts', id: 'curves'});
const caption = el('p', {class: 'note', id: 'caption'});

section('Side by side', 'The arrow keys step through the frames; a click in a curve goes to its frame.',
  el('div', {class: 'controls'}, el('label', {}, 'sequence', menu), el('label', {}, 'frame', slider),
    player(slider, () => showFrame(Number(slider.value))),
    ...(hasPictures ? [el('label', {}, 'opacity', opacity)] : [])),
  caption, panels, curves);

function show(name, stem) {
  chosen.sequence = all[0].findIndex(one => one.name === name);
  const sequence = all[0][chosen.sequence];
  menu.value = chosen.sequence;
  slider.max = frames().length - 1;
  const plots = (sequence.stems.length ? sequence.ids : []).map((id, row) => el('figure', {},
    el('figcaption', {}, `J&F of object ${id}`),
    chart({label: 'scored frame', title: `J&F of object ${id}`,
      series: runs.map((run, index) => ({name: run, colour: colour(index + 1),
        points: jf(all[index][chosen.sequence], row)})),
      choose: frame => showFrame(Math.min(Math.max(frame - 1, 0), frames().length - 1))})));
  curves.replaceChildren(...plots);
  showFrame(Math.max(0, stem === undefined ? 0 : frames().indexOf(stem)));
}

function jump(name, stem) {
  show(name, stem);
  slider.scrollIntoView({block: 'center'});
}

function jf(sequence, row) {
  return sequence.J[row].map((value, index) =>
    [index + 1, value === null ? null : (value + sequence.F[row][index]) / 2]);
}

function showFrame(index) {
  const sequence = all[0][chosen.sequence];
  const stem = frames()[index];
  chosen.frame = index;
  slider.value = index;
  caption.textContent = `${sequence.name}, frame ${stem} (${index + 1} of ${frames().length})`;
  if (hasPictures) {
    const shown = [['truth', 'annotation'], ...runs.map((run, place) => [`run${place}`, run])]
      .filter(([kind]) => DATA.kinds.includes(kind));
    panels.replaceChildren(...shown.map(([kind, name]) => el('figure', {},
      stack(sequence.name, stem, kind, opacity.value), el('figcaption', {}, label(name, index)))));
    const next = frames()[index + 1];
    if (next) preload(DATA.kinds, sequence.name, next);
  }
  curves.querySelectorAll('svg').forEach(plot => plot.moveCursor(index + 1));
}

function label(name, index) {
  const run = all[runs.indexOf(name)];
  if (!run || !run[chosen.sequence].stems.length) return name;
  const sequence = run[chosen.sequence];
  const values = sequence.ids.map((id, row) => `${id}: ${percent(jf(sequence, row)[index][1])}`);
  return `${name}. J&F of object ${values.join(', ')}`;
}

curves.before(legend(runs.map((run, index) => [run, colour(index + 1)])));
section('Sequences', 'J&F. Click a heading to sort, a row to see its sequence.',
  sortableTable('sequences', changeColumns('sequence'), DATA.sequences, row => jump(row[0])));
section('Objects', 'J&F. Click a heading to sort, a row to see its sequence.', sortableTable('objects', changeColumns('object'), DATA.objects,
  row => jump(row[0].slice(0, row[0].lastIndexOf('_')))));

DATA.frames.forEach((frames, index) => {
  if (!frames.length) return;
  section(`Frames where ${runs[index + 1]} differs most`, 'J&F. Click a row to see the frame.',
    sortableTable(`differences${index}`, [
      {name: 'sequence', value: row => row.sequence},
      {name: 'frame', value: row => row.stem},
      {name: 'object', value: row => row.id},
      {name: runs[0], value: row => row.first, show: percent},
      {name: runs[index + 1], value: row => row.second, show: percent},
      {name: 'change', value: row => row.second - row.first, show: change, mark: () => 1},
    ], frames, row => jump(row.sequence, row.stem)));
});

if (DATA.shown.some(one => one.length)) {
  show(all[0][DATA.shown.findIndex(one => one.length)].name);
  stepByKeys(slider, () => showFrame(Number(slider.value)));
}
