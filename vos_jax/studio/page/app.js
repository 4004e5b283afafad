// The studio: which frame is shown, what the server is doing, and what the buttons and keys do.
import * as api from './api.js';
import { Objects } from './objects.js';
import { Painter } from './painter.js';
import { Start } from './start.js';
import { Store } from './store.js';
import { Timeline } from './timeline.js';
import { buildToolbar, showShortcuts } from './toolbar.js';

const $ = (id) => document.getElementById(id);

let project = null, status = null, frame = 0, asked = 0, playing = null, following = false, seen = null, ended = 0;
let timer = 0, isLost = false, polling = null, isLooking = false;

// ---- messages

function complain(error) {
  console.info(error.message);
  $('alert').firstElementChild.textContent = error.message;
  $('alert').hidden = false;
}

$('alert').lastElementChild.onclick = () => { $('alert').hidden = true; };

// Runs what a button does; what goes wrong is shown.
const doing = (work) => async (...values) => {
  try {
    $('alert').hidden = true;
    await work(...values);
  } catch (error) {
    complain(error);
  }
};

function showSaving(count, error) {
  $('saved').classList.toggle('busy', count > 0);
  $('saved').textContent = count ? 'Saving…' : '✓ All saved';
  if (error) complain(error);
}

// For those who hear the page.
function say(text) { $('said').textContent = text; }

window.addEventListener('beforeunload', (event) => { if (store.waiting.size) event.preventDefault(); });

// ---- parts

let listed = Promise.resolve();  // changes of the list of objects, one after the other
const store = new Store(showSaving, (number, mine) => keepStale(number, mine), () => listed);
const painter = new Painter(
  { pictures: $('pictures'), stage: $('stage'), picture: $('picture'), mask: $('mask'), drawing: $('drawing') },
  (number, held) => {
    store.change(number, held);
    $('results').hidden = true;  // they are of an earlier state
    following = false;
    pause();
    hint();
  },
  (values) => find(values),
);
const timeline = new Timeline($('marks'), $('scrub'), $('number'));
const objects = new Objects(painter, saveObjects, reload);
const start = new Start(openProject, complain);
const toolbar = buildToolbar(painter);

function saveObjects() {
  if (!project) return undefined;
  listed = listed.then(doing(async () => {
    try {
      project.version = (await api.send('PUT', 'objects', { objects: objects.list }, project.version)).version;
    } catch (error) {
      if (error.status === 409) {
        project = await api.get('project');
        objects.take(project.objects, project.colours);
        await reload();
      }
      throw error;
    }
  }));
  return listed;
}

// Somebody else was faster: theirs is shown, mine is one undo away.
const keepStale = doing(async (number, mine) => {
  const { labels } = await store.masks.get(number);
  painter.keep(number, mine, labels);
  if (number === frame) await show(frame);
  throw new Error(`Frame ${number} was changed meanwhile, in another tab or by following, and is shown as it is now. `
    + 'Undo in that frame (Ctrl Z) brings back what you painted.');
});

// Paints what the server finds from a box or from scribbles.
const find = doing(async (values) => {
  const number = frame, { id } = painter;
  isLooking = true;
  hint();
  try {
    await listed;
    await store.settle();
    const found = await api.outline({ frame: number, object: id, ...values });
    if (number !== painter.number) return;
    const count = painter.takeMask(found, id);
    say(`${objects.chosen().name} has ${count} pixels in frame ${number}. Scribble, brush and eraser correct it; Control Z undoes it.`);
  } finally {
    isLooking = false;
    hint();
  }
});

async function openProject() {
  project = await api.get('project');
  store.clear(project.size[0] * project.size[1]);
  painter.setSize(...project.size);
  objects.take(project.objects, project.colours);
  toolbar.update();
  status = null;
  ended = 0;
  frame = 0;
  following = false;
  seen = null;
  $('results').hidden = true;
  $('start').hidden = true;
  $('editor').hidden = false;
  $('leave').hidden = false;
  $('title').textContent = project.name;
  document.title = `${project.name} – vos_jax studio`;
  $('saved').textContent = '✓ All saved';
  $('size').replaceChildren(...project.sizes.map((value) => {
    const text = value ? { 240: 'Fast (240 lines)', 360: 'Medium (360)', 480: 'Fine (480)', 720: 'Finest (720)' }[value] : `Full (${Math.min(...project.size)})`;
    return new Option(text, value);
  }));
  delete $('size').dataset.chosen;
  await poll();
  ended = status.last?.number ?? 0;
  const known = status.project.given[0] ?? status.project.masked[0]?.[0] ?? 0;
  if (status.job?.kind === 'track') following = true;
  painter.fit();
  await show(status.job?.frame ?? known);
  hint();
}

$('leave').onclick = doing(async () => {
  await store.settle();
  project = null;
  await api.send('POST', 'close');
  await leave();
});

async function leave() {
  pause();
  project = null;
  $('editor').hidden = true;
  $('leave').hidden = true;
  $('title').textContent = $('saved').textContent = '';
  document.title = 'vos_jax studio';
  await start.show();
}

// ---- frames

async function show(number) {
  const count = status?.project?.frames ?? 0;
  frame = Math.max(0, Math.min(number, count - 1));
  const ticket = ++asked;
  timeline.show(frame);
  $('waiting').hidden = count > 0;
  if (!count) return;
  try {
    const [bitmap, held] = await Promise.all([store.pictures.get(frame), store.masks.get(frame)]);
    if (ticket !== asked) return;
    painter.load(frame, bitmap, held);
    objects.showCounts();
  } catch (error) {
    if (ticket === asked && error.status !== 404) complain(error);
  }
}

function reload() {
  store.masks.clear();
  for (const number of [...painter.steps.keys()]) painter.forgetSteps(number);
  return show(frame);
}

function forgetMasks(from, to) {
  for (let number = Math.min(from, to); number <= Math.max(from, to); number++) {
    if (store.isChanged(number)) continue;
    store.masks.forget(number);
    painter.forgetSteps(number);
  }
}

function move(by) {
  following = false;
  pause();
  show(frame + by);
}

function pause() {
  clearTimeout(playing);
  playing = null;
  drawPlay();
}

function play() {
  if (playing !== null) return pause();
  following = false;
  const last = status.project.frames - 1;
  let next = frame >= last ? 0 : frame + 1;
  const tick = async () => {
    const begun = performance.now();
    for (let ahead = 1; ahead < 8; ahead++) if (next + ahead <= last) { store.pictures.get(next + ahead).catch(() => {}); store.masks.get(next + ahead).catch(() => {}); }
    await show(next);
    if (playing === null) return;
    next++;
    if (next > last) pause();
    else playing = setTimeout(tick, Math.max(0, 1000 / Math.min(60, project.rate) - (performance.now() - begun)));
  };
  playing = setTimeout(tick, 0);
  return drawPlay();
}

function drawPlay() {
  const isPlaying = playing !== null;
  $('play').textContent = isPlaying ? '❚❚' : '►';
  $('play').setAttribute('aria-label', isPlaying ? 'Pause' : 'Play');
}

// ---- the server

async function poll() {
  clearTimeout(timer);
  const mine = polling = {};
  try {
    const now = await api.get('status');
    if (mine !== polling) return;
    if (isLost) $('alert').hidden = true;
    isLost = false;
    take(now);
  } catch (error) {
    // Without a status it broke off: before the answer, or in the middle of it.
    if (!isLost) complain(error.status ? error : new api.Lost());
    isLost = true;
  }
  const busy = status?.job || status?.project?.reading || status?.model.state !== 'ready';
  timer = setTimeout(poll, isLost ? 2000 : busy ? 250 : 1500);
}

function take(now) {
  const first = status === null;
  status = now;
  showModel(now);
  // How fine depends on the device, which is known once the model is loaded.
  if (project && !$('size').dataset.chosen) $('size').value = project.sizes.includes(now.short_side) ? now.short_side : 0;
  if (project && now.project?.name !== project.name) {
    complain(new Error('The video was closed in another tab.'));
    doing(now.project ? openProject : leave)();
    return;
  }
  if (!project) return;
  const { job, last } = now;
  timeline.update(now.project, job);
  timeline.show(frame);
  if (job?.kind === 'track' && job.frame !== null) {
    if (seen === null) seen = job.start;
    if (seen !== job.frame) {
      forgetMasks(seen + job.direction, job.frame);
      seen = job.frame;
      if (following) show(job.frame);
    }
  }
  if (last && last.number > ended && !first) finish(last);
  else if (painter.number === null && now.project.frames > 0) show(frame);
  showJob(job);
  if (now.project.damage && !take.told) complain(new Error(now.project.damage));
  take.told = now.project.damage;
  hint();
}

function finish(last) {
  ended = last.number;
  if (last.kind === 'track') {
    if (last.frame !== null) forgetMasks(seen ?? last.start, last.frame);
    seen = null;
    show(following && last.frame !== null ? last.frame : frame);
    following = false;
  }
  if (last.error) complain(new Error(last.error));
  else if (last.kind === 'save' && !last.stopped) showResults();
}

function showModel({ model, device }) {
  $('model').className = model.state;
  $('model').textContent = { loading: 'Loading the model…', preparing: 'Preparing the model…', ready: `Model ready · ${device.replace(/ \(.*/, '')}`, failed: model.message }[model.state];
}

function showJob(job) {
  $('job').hidden = !job;
  $('follow').hidden = $('detail').hidden = Boolean(job);
  for (const id of ['forwards', 'backwards', 'save']) $(id).disabled = Boolean(job) || !hasMasks();
  if (!job) return;
  const what = { track: 'Following', save: 'Saving' }[job.kind];
  if (job.total) $('progress').value = job.done / job.total;
  else $('progress').removeAttribute('value');
  const of = job.total ? ` of ${job.total}` : '';
  const rest = job.left_s === undefined || job.left_s === null ? '' : ` · ${Math.floor(job.left_s / 60)}:${String(Math.round(job.left_s % 60)).padStart(2, '0')} left`;
  const speed = job.done > 2 ? ` · ${job.fps.toPrecision(2)} frames/s${rest}` : job.kind === 'track' && !job.done ? ' · the first frame takes longest' : '';
  $('progress-text').textContent = `${what}: ${job.done}${of} frames${speed}`;
}

function hasMasks() { return store.waiting.size > 0 || status?.project?.masked.length > 0; }

function showResults() {
  const stamp = Date.now();
  const link = (name, text, extra = '') => {
    const item = document.createElement('li'), a = document.createElement('a');
    a.href = `api/results/${name}?${extra}${stamp}`;
    a.textContent = text;
    if (extra) a.target = '_blank';
    else a.download = '';
    item.append(a);
    return item;
  };
  const where = document.createElement('li');
  where.className = 'path';
  where.textContent = `${project.folder}`;
  $('results').replaceChildren(
    link('overlay.mp4', 'Watch the overlay video', 'show&'), link('overlay.mp4', 'Download the video'),
    link('masks.zip', 'Download the masks (PNG)'), link('summary.json', 'Download the summary'), where,
  );
  $('results').hidden = false;
  $('results').lastElementChild.scrollIntoView({ block: 'nearest' });
}

// How an object is marked, by tool.
const FIRST = {
  box: (name) => `Draw a box around ${name}; its outline is found. Then correct it by scribbles or brush.`,
  scribble: (name) => `Scribble on ${name}; with Shift or the right button on what it is not.`,
  brush: (name) => `Paint over ${name} in this frame; a box (R) around it is quicker.`,
  eraser: (name) => `Erase what is not ${name}.`,
  polygon: (name) => `Click around ${name}, corner by corner.`,
  fill: (name) => `Click into a closed outline to make it ${name}.`,
};

// What to do next, in one line, and the step it belongs to.
function hint() {
  if (!project || !status?.project) return;
  const { reading, frames, expected, masked, given } = status.project, job = status.job;
  const name = objects.chosen()?.name ?? 'the object';
  let step = 1, text = FIRST[painter.tool](`<b>${escape(name)}</b>`);
  if (isLooking) text = 'Looking for the outline…';
  else if (painter.points.length) text = 'Click around the object; <b>click the first point, or Enter</b>, to close. Backspace takes a point back.';
  else if (job?.kind === 'track') { step = 2; text = 'Following… <b>Stop</b> (Esc) where it goes wrong, correct that frame, and follow again.'; }
  else if (job?.kind === 'save') { step = 4; text = 'Saving masks and video…'; }
  else if (!$('results').hidden) { step = 4; text = '<b>Saved.</b> Watch or download it at the right; what you paint from now on is in the next one.'; }
  else if (hasMasks()) {
    const only = masked.reduce((sum, [first, last]) => sum + last - first + 1, 0) <= given.length;
    if (only) { step = 2; text = '<b>Follow forwards</b> (T) finds it in the frames that come. More objects? Add them first.'; }
    else if (masked.length === 1 && masked[0][0] === 0 && masked[0][1] >= frames - 1) { step = 3; text = 'Every frame has masks. <b>Play</b> (Space) to check; paint where it is wrong and follow again. Then <b>save</b>.'; }
    else { step = 3; text = 'Check: <b>Play</b> (Space). Correct a frame by painting, and <b>follow</b> (T, Shift+T) on from there.'; }
  }
  $('reading').textContent = reading ? `Reading the video: ${frames}${expected ? ` of ${expected}` : ''} frames` : '';
  if ($('hint').innerHTML !== text && hint.text !== text) $('hint').innerHTML = text;
  hint.text = text;
  for (let number = 1; number <= 4; number++) $(`step${number}`).classList.toggle('now', number === step);
}

function escape(text) { return text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`); }

// ---- what one can do

const track = doing(async (backwards) => {
  if (status?.job) return;
  pause();
  painter.cancel();
  await store.settle();
  seen = null;
  await api.send('POST', 'track', { frame, backwards, size: Number($('size').value) });
  following = true;
  $('results').hidden = true;
  await poll();
});

const stop = doing(async () => { await api.send('POST', 'stop'); await poll(); });

const save = doing(async () => {
  await store.settle();
  $('results').hidden = true;
  await api.send('POST', 'save');
  await poll();
});

const wipe = doing(async () => {
  await store.settle();
  await api.send('DELETE', `masks/${frame}`, {}, (await store.masks.get(frame)).version);
  store.masks.forget(frame);
  painter.forgetSteps(frame);
  await poll();
  await show(frame);
});

$('size').onchange = () => { $('size').dataset.chosen = 'yes'; };
$('forwards').onclick = () => track(false);
$('backwards').onclick = () => track(true);
$('stop').onclick = stop;
$('save').onclick = save;
$('wipe').onclick = wipe;
$('play').onclick = play;
$('back').onclick = () => move(-1);
$('forth').onclick = () => move(1);
$('scrub').oninput = () => { following = false; pause(); show(Number($('scrub').value)); };
$('opacity').oninput = () => painter.setOpacity($('opacity').value / 100);
$('larger').onclick = () => painter.setZoom(painter.zoom * 1.5);
$('smaller').onclick = () => painter.setZoom(painter.zoom / 1.5);
$('fit').onclick = () => painter.setZoom(1);
const showHelp = () => { $('keys').showModal(); $('keys').scrollTop = 0; };
$('help').onclick = showHelp;

const tool = (name) => () => { painter.setTool(name); toolbar.update(); hint(); };
const replay = (way) => () => { painter[way](); say(way === 'undo' ? 'Undone' : 'Redone'); };
const radius = (factor) => () => { painter.setRadius(Math.max(painter.radius + Math.sign(factor - 1), Math.round(painter.radius * factor))); toolbar.update(); };

function toggleMasks() {
  const slider = $('opacity');
  toggleMasks.before = Number(slider.value) || toggleMasks.before || 50;
  slider.value = Number(slider.value) ? 0 : toggleMasks.before;
  painter.setOpacity(slider.value / 100);
}

const KEYS = [
  ['r', 'R', 'box around an object', tool('box')], ['c', 'C', 'scribble on it (Shift: beside it)', tool('scribble')],
  ['b', 'B', 'brush', tool('brush')], ['e', 'E', 'eraser (or right mouse button)', tool('eraser')],
  ['p', 'P', 'polygon', tool('polygon')], ['f', 'F', 'fill', tool('fill')],
  ['[', '[', 'smaller brush', radius(1 / 1.25)], [']', ']', 'larger brush', radius(1.25)],
  ['ctrl+z', 'Ctrl Z', 'undo', replay('undo')], ['ctrl+shift+z', 'Ctrl Shift Z', 'redo', replay('redo')],
  ['ctrl+y', null, '', replay('redo')],
  ['Enter', 'Enter', 'close the polygon', () => painter.closePolygon()], ['Backspace', 'Backspace', 'take a point back', () => painter.points.length && painter.undo()],
  ['n', 'N', 'new object', () => objects.add()], ['1', '1 … 9', 'choose an object', null],
  ['t', 'T', 'follow forwards', () => track(false)], ['shift+t', 'Shift T', 'follow backwards', () => track(true)],
  ['Escape', 'Esc', 'stop; drop box or polygon', () => { if (!painter.cancel() && status?.job) stop(); hint(); }],
  ['s', 'S', 'save masks and video', save],
  [' ', 'Space', 'play, pause', play], ['ArrowLeft', '← or ,', 'previous frame', () => move(-1)], ['ArrowRight', '→ or .', 'next frame', () => move(1)],
  [',', null, '', () => move(-1)], ['.', null, '', () => move(1)],
  ['shift+ArrowLeft', 'Shift ←', '10 frames back', () => move(-10)], ['shift+ArrowRight', 'Shift →', '10 frames forward', () => move(10)],
  ['Home', 'Home', 'first frame', () => move(-1e9)], ['End', 'End', 'last frame', () => move(1e9)],
  ['h', 'H', 'hide or show masks', toggleMasks], ['+', '+ −', 'zoom (also Ctrl and wheel)', () => painter.setZoom(painter.zoom * 1.5)],
  ['-', null, '', () => painter.setZoom(painter.zoom / 1.5)], ['0', '0', 'fit', () => painter.setZoom(1)],
];
showShortcuts($('shortcuts'), KEYS);

document.addEventListener('keydown', (event) => {
  if (event.key === '?' && !isTyping(event.target)) return showHelp();
  if ($('editor').hidden || $('keys').open || isTyping(event.target) || event.altKey) return undefined;
  if (event.target === $('drawing') && !event.ctrlKey && !event.metaKey && painter.key(event)) return event.preventDefault();
  const isButton = event.target.closest?.('button, a, select, input');
  if (isButton && [' ', 'Enter'].includes(event.key)) return undefined;
  if (event.target.closest?.('select, input') && /^(Arrow|Home|End|Page)/.test(event.key)) return undefined;
  if (/^[1-9]$/.test(event.key) && !event.ctrlKey && !event.metaKey) {
    objects.chooseAt(Number(event.key) - 1);
    hint();
    return say(`${objects.chosen()?.name} is chosen`);
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const shifted = event.shiftKey && (event.key.length > 1 || /[a-z]/.test(key));
  const name = `${event.ctrlKey || event.metaKey ? 'ctrl+' : ''}${shifted ? 'shift+' : ''}${key}`;
  const found = KEYS.find(([wanted]) => wanted === name);
  if (!found?.[3]) return undefined;
  event.preventDefault();
  return found[3]();
});

function isTyping(element) { return element.matches?.('input[type="text"], textarea'); }

// ---- begin

drawPlay();
await poll();
if (status?.project) await doing(openProject)();
else await doing(() => start.show())();
