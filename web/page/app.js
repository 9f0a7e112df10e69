// The page: what the server tells is shown, what people do is told to the server.
import { Pictures, personAt } from './picture.js';
import { Camera, cameraProblem } from './camera.js';

const $ = (id) => document.getElementById(id);
const VIEWS = ['result', 'cutout', 'source'];
let state = null;   // the last one the server told
let chosen = null;  // id of the chosen person
let hovered = null;
let camera = null;
let uploadFor = null;  // person the file dialog was opened for; null = everyone

// ------------------------------------------------------------------ talking to the server

async function tell(path, about, method = 'POST') {
  try {
    const answer = await fetch(path, {
      method,
      headers: about === undefined ? {} : { 'content-type': 'application/json' },
      body: about === undefined ? undefined : JSON.stringify(about),
    });
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(said.error || `the program answered ${answer.status}`);
    if (said.people) update(said);
    return said;
  } catch (error) {
    const lost = error instanceof TypeError;
    message(lost ? 'The program does not answer. Is it still running?' : sentence(error.message), 'problem');
    return null;
  }
}

const sentence = (said) => said.charAt(0).toUpperCase() + said.slice(1) + (/[.!?…]$/.test(said) ? '' : '.');

const setTreatment = (id, treatment) => tell(`api/people/${id}`, { treatment });
const setBackground = (background) => tell('api/look', { background });

async function upload(file, person) {
  if (!/^(image|video)\//.test(file.type) && file.type) {
    message(`${file.name} is neither a picture nor a video.`, 'problem');
    return;
  }
  if (state && file.size > state.upload_bytes) {
    message(`${file.name} is too large: ${megabytes(file.size)}, and ${megabytes(state.upload_bytes)} are allowed.`, 'problem');
    return;
  }
  const busy = message(`Preparing ${file.name} …`, 'busy');
  try {
    const answer = await fetch('api/backgrounds', {
      method: 'POST', body: file,
      headers: { 'x-name': encodeURIComponent(file.name), 'content-type': 'application/octet-stream' },
    });
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(`${file.name}: ${said.error || answer.status}`);
    update(said.state);
    if (person === null) await setBackground(`upload:${said.id}`);
    else await setTreatment(person, `upload:${said.id}`);
  } catch (error) {
    message(sentence(error.message), 'problem');
  } finally {
    busy.remove();
  }
}

// ---------------------------------------------------------------------------- messages

function message(text, kind = 'note') {
  const line = document.createElement('p');
  line.className = `message ${kind}`;
  line.append(text);
  if (kind !== 'busy') {
    const close = document.createElement('button');
    close.className = 'quiet';
    close.setAttribute('aria-label', 'Dismiss');
    close.textContent = '×';
    close.onclick = () => line.remove();
    line.append(close);
    setTimeout(() => line.remove(), kind === 'problem' ? 12000 : 5000);
  }
  for (const old of [...$('messages').children]) if (old.dataset.text === text) old.remove();
  line.dataset.text = text;
  $('messages').append(line);
  return line;
}

const megabytes = (bytes) => (bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`);
const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, '0')}`;
const called = (person) => person.name || `Person ${person.id}`;

// ------------------------------------------------------------------------ showing state

/** Change text only where it differs: a screen reader should not hear everything twice a second. */
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Bring the children of `list` in line with `items`, keeping the elements of those that stay. */
function keyed(list, items, key, make, fill) {
  const old = new Map([...list.children].map((child) => [child.dataset.key, child]));
  let at = list.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let element = old.get(name);
    old.delete(name);
    if (!element) {
      element = make(item);
      element.dataset.key = name;
    }
    if (element !== at) list.insertBefore(element, at);
    else at = at.nextElementSibling;
    fill(element, item);
  }
  for (const gone of old.values()) gone.remove();
}

function update(now) {
  state = now;
  const { source, figures } = now;
  const states = { connecting: 'connecting', playing: 'live', lost: 'no picture', ended: 'ended' };
  $('source').dataset.state = now.running ? source.state : 'lost';
  const name = source.kind === 'browser' ? 'browser camera' : source.shown;
  const size = source.size && source.state === 'playing' ? ` · ${source.size[1]} × ${source.size[0]}` : '';
  put($('source-text'), now.running ? `${name} · ${states[source.state] ?? source.state}${size}` : 'stopped');
  $('source').title = source.problem;
  put($('rate'), figures.frames_per_second.toFixed(1));
  put($('delay'), `${Math.round(figures.latency_ms)} ms · ${Math.round(figures.latency_p95_ms)} ms`);
  if (figures.page_ms !== undefined) put($('page-delay'), figures.page_ms === null ? '–' : `${Math.round(figures.page_ms)} ms`);
  put($('dropped'), String(figures.dropped));
  put($('engine'), now.engine || '–');

  const recording = now.recording;
  $('record').setAttribute('aria-pressed', String(Boolean(recording)));
  put($('record-text'), recording ? `Stop · ${clock(recording.seconds)}` : 'Record');
  $('record').disabled = $('record').dataset.busy === '1' || (!recording && !source.size);
  $('record').title = !recording && !source.size ? 'There is no picture to record yet' : 'Record the result and everyone’s alpha (R)';
  if (recording?.problem) message(`The recording has stopped: ${recording.problem}`, 'problem');

  $('nobody').hidden = now.people.length > 0;
  keyed($('people-list'), now.people, (person) => person.id, makePerson, fillPerson);
  if (chosen !== null && !now.people.some((person) => person.id === chosen)) choose(null);
  fillChoices($('background'), [['marks', 'Marked'], ['keep', 'As it is'], ['blur', 'Blurred']], now.background, setBackground, null);

  for (const name of ['expand', 'feather']) {
    if (document.activeElement !== $(name)) $(name).value = now.edges[name];
    put($(`${name}-text`), `${$(name).value} px`);
  }
  $('recordings-part').hidden = !now.recordings.length;
  keyed($('recordings'), now.recordings, (one) => one.name, () => document.createElement('li'), fillRecording);
  $('sinks-part').hidden = !now.sinks.length;
  keyed($('sinks'), now.sinks, (one) => one.sink, () => document.createElement('li'), fillSink);
  if (!now.running) empty(now.problem ? `Stopped: ${now.problem}` : 'The source has ended.');
  if (!camera) {
    $('camera').disabled = now.camera_taken;
    put($('camera'), now.camera_taken ? 'Another page shares its camera' : 'Use this browser’s camera');
  }
}

function makePerson(person) {
  const item = $('person-template').content.firstElementChild.cloneNode(true);
  const id = person.id;
  item.id = `person-${id}`;
  item.querySelector('.who').onclick = () => choose(chosen === id ? null : id);
  item.querySelector('.who').onmouseenter = () => { hovered = id; outline(); };
  item.querySelector('.who').onmouseleave = () => { hovered = null; outline(); };
  const name = item.querySelector('.name');
  name.onchange = () => tell(`api/people/${id}`, { name: name.value });
  name.onkeydown = (event) => { if (event.key === 'Enter') name.blur(); };
  item.ondragover = () => { item.classList.add('target'); };
  item.ondragleave = () => item.classList.remove('target');
  return item;
}

const NOW = { keep: '', remove: 'hidden', blur: 'blurred' };

function fillPerson(item, person) {
  item.classList.toggle('away', !person.visible);
  item.classList.toggle('chosen', person.id === chosen);
  item.style.setProperty('--own', person.colour);
  const picture = item.querySelector('img');
  const address = person.picture === null ? '' : `api/people/${person.id}.jpg?${person.picture}`;
  if (address && picture.getAttribute('src') !== address) {
    picture.onload = () => { picture.style.visibility = ''; };
    picture.onerror = () => { picture.style.visibility = 'hidden'; };  // gone meanwhile: no broken sign
    picture.src = address;
  } else if (!address) picture.style.visibility = 'hidden';
  put(item.querySelector('b'), called(person));
  const away = person.seconds_ago < 60 ? `${person.seconds_ago} s` : `${Math.round(person.seconds_ago / 60)} min`;
  put(item.querySelector('small'), `${person.name ? `number ${person.id} · ` : ''}${person.visible ? 'in the picture' : `away for ${away}`}`);
  const treatment = person.treatment;
  put(item.querySelector('.now'), NOW[treatment] ?? (treatment.startsWith('#') ? 'colour behind' : 'picture behind'));
  const who = item.querySelector('.who');
  who.setAttribute('aria-expanded', String(person.id === chosen));
  item.querySelector('.inside').hidden = person.id !== chosen;
  const name = item.querySelector('.name');
  if (document.activeElement !== name) name.value = person.name;
  name.placeholder = `Person ${person.id}`;
  if (person.id === chosen) {
    fillChoices(item.querySelector('.choices'), [['keep', 'Keep'], ['remove', 'Hide'], ['blur', 'Blur']],
      treatment, (word) => setTreatment(person.id, word), person.id);
  }
}

/** Buttons of words, a colour, the uploaded backgrounds, and one to add another. */
function fillChoices(place, words, current, choose_, person) {
  if (!place.firstChild) {
    const row = document.createElement('div');
    row.className = 'words';
    for (const [word, shown] of words) {
      const button = document.createElement('button');
      button.textContent = shown;
      button.dataset.word = word;
      button.onclick = () => choose_(word);
      row.append(button);
    }
    const label = document.createElement('label');
    label.className = 'colour';
    label.title = person === null ? 'A colour behind everyone' : 'A colour behind this person';
    const input = document.createElement('input');
    input.type = 'color';
    input.value = '#00b140';
    let later = 0;
    input.oninput = () => { clearTimeout(later); later = setTimeout(() => choose_(input.value), 120); };
    input.onclick = () => { if (!place.dataset.current.startsWith('#')) choose_(input.value); };
    label.append(input, 'Colour');
    row.append(label);
    const tiles = document.createElement('div');
    tiles.className = 'tiles';
    place.append(row, tiles);
  }
  place.dataset.current = current;
  for (const button of place.querySelectorAll('.words button')) {
    button.setAttribute('aria-pressed', String(button.dataset.word === current));
  }
  const label = place.querySelector('.colour');
  label.classList.toggle('on', current.startsWith('#'));
  const input = label.querySelector('input');
  if (current.startsWith('#') && document.activeElement !== input) input.value = current;
  keyed(place.querySelector('.tiles'), [...state.library, { id: 'add' }], (one) => one.id,
    (one) => (one.id === 'add' ? makeAdd(person) : makeTile(one, choose_)),
    (tile, one) => {
      if (one.id !== 'add') tile.querySelector('.pick').setAttribute('aria-pressed', String(current === `upload:${one.id}`));
    });
}

function makeTile(one, choose_) {
  const tile = document.createElement('div');
  tile.className = 'tile';
  const pick = document.createElement('button');
  pick.className = 'pick';
  pick.title = one.name;
  pick.setAttribute('aria-label', `${one.kind} ${one.name}`);
  if (one.thumbnail) {
    const picture = document.createElement('img');
    picture.src = `api/backgrounds/${one.id}.jpg`;
    picture.alt = '';
    pick.append(picture);
  } else pick.append(one.name);
  if (one.kind === 'video') {
    const mark = document.createElement('span');
    mark.className = 'video-mark';
    mark.textContent = '▶';
    pick.append(mark);
  }
  pick.onclick = () => choose_(`upload:${one.id}`);
  const away = document.createElement('button');
  away.className = 'away-button';
  away.textContent = '×';
  away.setAttribute('aria-label', `Remove ${one.name}`);
  away.onclick = () => tell(`api/backgrounds/${one.id}`, undefined, 'DELETE');
  tile.append(pick, away);
  return tile;
}

function makeAdd(person) {
  const tile = document.createElement('div');
  tile.className = 'tile';
  const add = document.createElement('button');
  add.className = 'pick add';
  add.textContent = '+ Picture or video';
  add.onclick = () => { uploadFor = person; $('file').click(); };
  tile.append(add);
  return tile;
}

function fillRecording(item, one) {
  const print = JSON.stringify(one);
  if (item.dataset.print === print) return;
  item.dataset.print = print;
  item.replaceChildren();
  const about = document.createElement('p');
  const people = one.people.length === 1 ? '1 person' : `${one.people.length} people`;
  about.textContent = `${one.name.replace('_', ' ').replaceAll('-', ':').replace(':', '-').replace(':', '-')} · ${one.frames} pictures, ${people}${one.dropped ? `, ${one.dropped} not recorded` : ''}`;
  item.append(about);
  if (one.problem) {
    const problem = document.createElement('p');
    problem.className = 'bad';
    problem.textContent = one.problem;
    item.append(problem);
  }
  const names = { 'composite.mp4': 'Result', 'alpha.mkv': 'Alpha tracks', 'people.json': 'Who was when' };
  for (const file of one.files) {
    const link = document.createElement('a');
    link.href = `api/recordings/${encodeURIComponent(one.name)}/${encodeURIComponent(file.name)}`;
    link.download = '';
    link.textContent = `${names[file.name] ?? file.name} · ${megabytes(file.bytes)}`;
    item.append(link);
  }
}

function fillSink(item, one) {
  item.className = one.state === 'failed' || one.state === 'retrying' ? 'bad' : '';
  const words = { waiting: 'waiting', running: 'running', retrying: 'trying again', failed: 'stopped', closed: 'closed' };
  put(item, `${one.sink}: ${words[one.state] ?? one.state}${one.problem ? ` (${one.problem})` : ''}`);
}

// ------------------------------------------------------------------- choosing a person

function choose(id) {
  chosen = id;
  for (const person of state?.people ?? []) {
    const item = $(`person-${person.id}`);
    if (item) fillPerson(item, person);
  }
  if (id !== null) $(`person-${id}`)?.scrollIntoView({ block: 'nearest', behavior: 'smooth' });
  outline();
}

function step(by) {
  const ids = (state?.people ?? []).filter((person) => person.visible).map((person) => person.id);
  if (!ids.length) return;
  const at = ids.indexOf(chosen);
  choose(ids[at < 0 ? (by > 0 ? 0 : ids.length - 1) : (at + by + ids.length) % ids.length]);
}

const FINER = 4; // pixels of the overlay for a cell of the map, so that a rim runs between cells
const stencil = document.createElement('canvas').getContext('2d', { willReadFrequently: true });

/** Tint whoever is chosen or under the pointer, from the map of the latest picture. */
function outline() {
  const overlay = $('overlay');
  const context = overlay.getContext('2d');
  const latest = pictures.latest;
  context.clearRect(0, 0, overlay.width, overlay.height);
  if (!latest || (chosen === null && hovered === null)) return;
  const [rows, columns] = latest.header.map;
  if (stencil.canvas.width !== FINER * columns || stencil.canvas.height !== FINER * rows) {
    for (const canvas of [overlay, stencil.canvas]) {
      canvas.width = FINER * columns;
      canvas.height = FINER * rows;
    }
  }
  const places = new Map(latest.header.people.map((person, place) => [person.id, place + 1]));
  for (const [id, strength] of new Map([[hovered, 80], [chosen, 110]])) { // once, if they are one
    const place = places.get(id);
    if (!place) continue;
    const colour = state?.people.find((person) => person.id === id)?.colour ?? '#ffffff';
    context.drawImage(tinted(latest.map, place, columns, rows, colour, strength), 0, 0);
  }
}

/** Somebody's cells, enlarged with smooth edges.  The rim is drawn stronger than the inside, which
 * should stay visible. */
function tinted(map, place, columns, rows, colour, strength) {
  const cells = new ImageData(columns, rows);
  for (let i = 0; i < map.length; i += 1) if (map[i] === place) cells.data[4 * i + 3] = 255;
  const { width, height } = stencil.canvas;
  stencil.clearRect(0, 0, width, height);
  stencil.putImageData(cells, 0, 0);
  stencil.globalCompositeOperation = 'copy'; // the small picture gives way to the large one
  stencil.imageSmoothingQuality = 'high';
  stencil.drawImage(stencil.canvas, 0, 0, columns, rows, 0, 0, width, height);
  stencil.globalCompositeOperation = 'source-over';
  const shape = stencil.getImageData(0, 0, width, height);
  const rgb = [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));
  for (let i = 0; i < shape.data.length; i += 4) {
    const alpha = shape.data[i + 3];
    [shape.data[i], shape.data[i + 1], shape.data[i + 2]] = rgb;
    if (alpha < 72) shape.data[i + 3] = 0;
    else shape.data[i + 3] = alpha < 184 ? Math.min(255, strength * 2) : strength * 0.35;
  }
  stencil.putImageData(shape, 0, 0);
  return stencil.canvas;
}

function pointed(event) {
  const latest = pictures.latest;
  if (!latest) return null;
  const box = $('picture').getBoundingClientRect();
  return personAt(latest.header, latest.map, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
}

$('picture').onmousemove = (event) => {
  hovered = pointed(event);
  const person = state?.people.find((one) => one.id === hovered);
  $('hint').hidden = !person;
  if (person) put($('hint'), `${called(person)} – click to change`);
  $('picture').style.cursor = person ? 'pointer' : '';
  outline();
};
$('picture').onmouseleave = () => { hovered = null; $('hint').hidden = true; outline(); };
$('picture').onclick = (event) => choose(pointed(event));

// ------------------------------------------------------------------------------ picture

function empty(text) {
  $('empty').hidden = !text;
  put($('empty'), text);
}

const pictures = new Pictures($('picture'), {
  view: 'result',
  onState: update,
  onPicture: (header) => {
    if (!header.slate) empty('');
    else $('empty').hidden = true;
    const [height, width] = header.size;
    $('frame').style.setProperty('--shape', `${width} / ${height}`);
    $('frame').style.setProperty('--ratio', width / height);
    outline();
  },
  onConnection: (on, reason) => {
    document.body.classList.toggle('offline', !on);
    if (!on) {
      $('source').dataset.state = 'lost';
      put($('source-text'), 'not connected');
      empty(reason || 'The program does not answer. This page connects again by itself.');
    }
  },
});
window.troupe = pictures;  // for the console, and for tests

function show(view) {
  pictures.show(view);
  for (const button of document.querySelectorAll('[data-view]')) {
    const on = button.dataset.view === view;
    button.setAttribute('aria-checked', String(on));
    button.tabIndex = on ? 0 : -1;
  }
}
for (const button of document.querySelectorAll('[data-view]')) {
  button.onclick = () => show(button.dataset.view);
  button.onkeydown = (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    show(VIEWS[(VIEWS.indexOf(pictures.view) + by + VIEWS.length) % VIEWS.length]);
    document.querySelector('[data-view][aria-checked=true]').focus();
  };
}
show('result');

async function fullScreen() {
  if (document.fullscreenElement) await document.exitFullscreen();
  else if ($('frame').requestFullscreen) await $('frame').requestFullscreen().catch(() => message('This browser does not allow full screen here.', 'problem'));
  else message('This browser has no full screen.', 'problem');
}
$('full').onclick = fullScreen;

// --------------------------------------------------------------------- edges, recording

for (const name of ['expand', 'feather']) {
  let later = 0;
  $(name).oninput = () => {
    put($(`${name}-text`), `${$(name).value} px`);
    clearTimeout(later);
    later = setTimeout(() => tell('api/look', { edges: { [name]: Number($(name).value) } }), 80);
  };
}

async function record() {
  if (!state || $('record').disabled) return;
  const on = !state.recording;
  $('record').dataset.busy = '1';
  $('record').disabled = true;
  const busy = on ? null : message('Finishing the recording …', 'busy');
  const said = await tell('api/recording', { on });
  busy?.remove();
  $('record').dataset.busy = '';
  if (said && on) message(`Recording into ${said.recording?.folder ?? 'a new folder'} on the machine that runs the program.`);
  if (said && !on) message('The recording is finished. Its files can be downloaded under Recordings.');
  if (state) update(state);
}
$('record').onclick = record;

// ------------------------------------------------------------------------------- camera

async function share() {
  const problem = cameraProblem();
  if (problem) {
    message(problem, 'problem');
    return;
  }
  $('camera').disabled = true;
  camera = new Camera((reason) => {
    camera = null;
    $('camera-on').hidden = true;
    $('camera').hidden = false;
    $('camera').disabled = false;
    if (reason) message(reason, 'problem');
  });
  await camera.start();
  if (camera) {
    $('camera-on').hidden = false;
    $('camera').hidden = true;
  }
}
$('camera').onclick = share;
$('camera-stop').onclick = () => camera?.stop();
window.addEventListener('pagehide', () => camera?.stop());

// -------------------------------------------------------------------------- drag and drop

$('file').onchange = () => {
  for (const file of $('file').files) upload(file, uploadFor);
  $('file').value = '';
};

/** Who a file over this point is for: an id, or null for everyone. */
function dropTarget(event) {
  const item = document.elementsFromPoint(event.clientX, event.clientY).map((one) => one.closest?.('.person')).find(Boolean);
  if (item) return Number(item.dataset.key);
  if (document.elementsFromPoint(event.clientX, event.clientY).includes($('picture'))) return pointed(event);
  return null;
}
const hasFile = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files');
window.addEventListener('dragover', (event) => {
  if (!hasFile(event)) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = 'copy';
  const id = dropTarget(event);
  const person = state?.people.find((one) => one.id === id);
  hovered = id;
  outline();
  put($('drop-text'), person ? `Drop it to put it behind ${called(person)}` : 'Drop a picture or video to put it behind everyone');
  $('drop').hidden = false;
});
window.addEventListener('dragleave', (event) => { if (!event.relatedTarget) $('drop').hidden = true; });
window.addEventListener('drop', (event) => {
  if (!hasFile(event)) return;
  event.preventDefault();
  const id = dropTarget(event);
  $('drop').hidden = true;
  for (const item of document.querySelectorAll('.target')) item.classList.remove('target');
  for (const file of event.dataTransfer.files) upload(file, id);
});

// ----------------------------------------------------------------------------- keyboard

$('help-open').onclick = () => $('help').showModal();
window.addEventListener('keydown', (event) => {
  // a dialog that has just closed keeps the keys until the next frame is drawn
  const typing = event.target.closest?.('input, textarea, select, dialog[open]');
  if (event.key === 'Escape' && typing && typing.tagName === 'INPUT') typing.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  if (/^[1-9]$/.test(key)) {
    const person = state?.people.find((one) => one.id === Number(key));
    if (person) choose(chosen === person.id ? null : person.id);
    else message(`There is no person ${key}.`);
  } else if (key === 'escape') choose(null);
  else if (key === 'arrowright') step(1);
  else if (key === 'arrowleft') step(-1);
  else if ('khb'.includes(key) && key.length === 1) {
    if (chosen === null) message('Choose a person first: click on them, or press their number.');
    else setTreatment(chosen, { k: 'keep', h: 'remove', b: 'blur' }[key]);
  } else if (key === 'n' && chosen !== null) $(`person-${chosen}`).querySelector('.name').focus();
  else if (key === 'v') show(VIEWS[(VIEWS.indexOf(pictures.view) + 1) % VIEWS.length]);
  else if (key === 'r') record();
  else if (key === 'f') fullScreen();
  else if (key === '?') $('help').showModal();
  else return;
  event.preventDefault();
});

// ---------------------------------------------------------------------------------- OBS

$('obs-url').value = new URL('obs', location.href).href;
$('obs-url').onfocus = () => $('obs-url').select();
$('obs-copy').onclick = async () => {
  try {
    await navigator.clipboard.writeText($('obs-url').value);
    message('Copied.');
  } catch {
    $('obs-url').select();
    message('Press Ctrl+C to copy the address.');
  }
};
