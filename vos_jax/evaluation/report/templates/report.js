const page = document.getElementById('page');
const chosen = {sequence: 0, frame: 0};
const hasPictures = DATA.kinds.includes('prediction');

page.append(el('h1', {}, DATA.title));
const headline = Object.entries(DATA.scores);
page.append(el('div', {class: 'tiles', id: 'scores'}, ...headline.map(([name, value]) =>
  el('div', {class: 'tile'}, el('b', {}, percent(value)), el('span', {}, name)))));
const pairs = rows => el('dl', {}, ...rows.flatMap(([label, text]) =>
  [el('dt', {}, label), el('dd', {}, text)]));
page.append(el('div', {id: 'facts'}, pairs(DATA.facts)));
if (DATA.settings.length) {
  page.append(el('details', {id: 'settings'}, el('summary', {}, 'settings'), pairs(DATA.settings)));
}
if (DATA.missing.length) {
  page.append(el('p', {class: 'note'}, 'Objects that no scored mask shows: ' + DATA.missing.join(', ')));
}

if (DATA.objects.length) {
  section('Objects', 'Percent. Click a heading to sort, a row to see its sequence.',
    sortableTable('objects', [
      {name: 'sequence', value: row => row.sequence},
      {name: 'object', value: row => row.id},
      {name: 'frames', value: row => row.frames},
      {name: 'area', value: row => row.area, show: percent},
      ...['J&F', 'J', 'F', 'J-Recall', 'F-Recall'].map(name =>
        ({name, value: row => row[name], show: percent})),
    ], DATA.objects, row => jump(row.sequence)));
}

const slider = el('input', {type: 'range', class: 'frame', id: 'frame', min: 0, value: 0,
  'aria-label': 'frame', oninput: () => showFrame(Number(slider.value))});
const opacity = el('input', {type: 'range', id: 'opacity', min: 0, max: 1, step: 0.05, value: 0.55,
  oninput: () => showFrame(chosen.frame)});
const menu = el('select', {id: 'sequence', onchange: () => show(DATA.sequences[menu.value].name)},
  ...DATA.sequences.map((one, index) => el('option', {value: index}, one.name)));
const layers = ['prediction', 'truth', 'errors'].filter(kind => DATA.kinds.includes(kind));
const layer = el('select', {id: 'layer', onchange: () => showFrame(chosen.frame)},
  ...layers.map(kind => el('option', {}, kind)));
const view = el('div', {id: 'view'});
const caption = el('figcaption', {id: 'caption'});
const curves = el('div', {id: 'curves'});
const frames = sequence => DATA.shown[DATA.sequences.indexOf(sequence)];

if (DATA.shown.some(one => one.length)) {
  const inCurves = DATA.objects.length ? '; a click in a curve goes to its frame' : '';
  section('Sequence', `The arrow keys step through the frames${inCurves}.`,
    el('div', {class: 'controls'}, el('label', {}, 'sequence', menu), el('label', {}, 'frame', slider),
      player(slider, () => showFrame(Number(slider.value))),
      ...(hasPictures ? [el('label', {}, 'show', layer), el('label', {}, 'opacity', opacity)] : [])),
    el('div', {class: 'viewer'}, el('figure', {}, view, caption), curves));
}

function show(name, stem) {
  chosen.sequence = DATA.sequences.findIndex(one => one.name === name);
  const sequence = DATA.sequences[chosen.sequence];
  menu.value = chosen.sequence;
  slider.max = frames(sequence).length - 1;
  if (sequence.stems.length) drawCurves(sequence);
  showFrame(Math.max(0, stem === undefined ? 0 : frames(sequence).indexOf(stem)));
}

function jump(name, stem) {
  show(name, stem);
  slider.scrollIntoView({block: 'center'});
}

function drawCurves(sequence) {
  const plots = ['J', 'F'].map(measure => {
    const series = sequence.ids.map((id, row) => ({name: `object ${id}`, colour: colour(id),
      points: sequence[measure][row].map((value, index) => [index + 1, value])}));
    return [el('figcaption', {}, `${measure} per frame`), chart({series, label: 'scored frame',
      title: `${measure} of ${sequence.name}`, choose: frame =>
        showFrame(Math.min(Math.max(frame - 1, 0), frames(sequence).length - 1))})];
  });
  curves.replaceChildren(legend(sequence.ids.map(id => [`object ${id}`, colour(id)])), ...plots.flat());
}

function showFrame(index) {
  const sequence = DATA.sequences[chosen.sequence];
  const stem = frames(sequence)[index];
  chosen.frame = index;
  slider.value = index;
  const values = sequence.stems.length ? sequence.ids.map((id, row) =>
    `object ${id}: J ${percent(sequence.J[row][index])}, F ${percent(sequence.F[row][index])}`) : [];
  caption.textContent = `${sequence.name}, frame ${stem} (${index + 1} of ${frames(sequence).length}). `
    + values.join('; ');
  if (hasPictures) {
    const marks = layer.value === 'errors'
      ? [legend([['missed', '#ffd000'], ['false alarm', '#ff2020'], ['another object', '#00c8ff']])] : [];
    view.replaceChildren(stack(sequence.name, stem, layer.value, opacity.value), ...marks);
    const next = frames(sequence)[index + 1];
    if (next) preload(DATA.kinds, sequence.name, next);
  }
  curves.querySelectorAll('svg').forEach(plot => plot.moveCursor(index + 1));
}

if (DATA.worst.length) {
  section('Worst frames', 'The frame with the lowest J&F of each object, the worst objects first.',
    el('div', {class: 'worst', id: 'worst'}, ...DATA.worst.map(one =>
      el('button', {onclick: () => jump(one.sequence, one.stem)},
        ...(hasPictures ? [stack(one.sequence, one.stem, 'prediction', 0.55)] : []),
        el('figcaption', {}, dot(colour(one.id)), `${one.sequence}, object ${one.id}, frame ${one.stem}: J&F ${percent(one['J&F'])}`)))));
}

function middle(bin) { return Math.log2(Math.max(bin.low, 0.125)) / 2 + Math.log2(bin.high) / 2; }

if (DATA.by_frame.length) {
  const sizes = {name: 'J&F', colour: '#4363d8', dots: true,
    points: DATA.by_size.map(bin => [middle(bin), bin['J&F']])};
  const times = {name: 'J&F', colour: '#4363d8',
    points: DATA.by_frame.map(one => [one.frame, one['J&F']])};
  const charts = el('div', {class: 'charts'});
  if (DATA.by_size.length) {
    charts.append(el('figure', {}, el('figcaption', {}, 'J&F against object size'), chart({series: [sizes],
      title: 'J&F against object size', label: 'share of the frame in percent (objects x frames)',
      ticks: DATA.by_size.map(bin => [middle(bin), `${bin.low}–${bin.high}`])})));
  }
  charts.append(el('figure', {}, el('figcaption', {}, 'J&F against frame number'), chart({series: [times],
    title: 'J&F against frame number', label: 'scored frame'})));
  section('Where scores are lost', 'Mean over objects. Sequences end at different frames, so the right '
    + 'part of the second curve is the mean of fewer objects.', charts);
}

if (DATA.shown.some(one => one.length)) {
  show(DATA.sequences[DATA.shown.findIndex(one => one.length)].name);
  stepByKeys(slider, () => showFrame(Number(slider.value)));
}
