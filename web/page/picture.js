// Pictures from the server onto a canvas.  web/hub.py says what a message is made of.

const text = new TextDecoder();

/** Take a binary message apart: its header, the map of who is where, and the JPEG. */
export function parse(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(text.decode(new Uint8Array(buffer, 4, length)));
  const cells = header.map[0] * header.map[1];
  const map = new Uint8Array(buffer, 4 + length, cells);
  return { header, map, jpeg: new Uint8Array(buffer, 4 + length + cells) };
}

/** The person at (x, y), both from 0 to 1: an id, or null. */
export function personAt(header, map, x, y) {
  const [rows, columns] = header.map;
  const row = Math.floor(y * rows), column = Math.floor(x * columns);
  if (row < 0 || column < 0 || row >= rows || column >= columns) return null;
  const place = map[row * columns + column];
  return place ? header.people[place - 1].id : null;
}

/** Put colours (upper half) and alpha (lower half) together, in place of the upper half's alpha. */
export function recombine(colour, alpha) {
  const to = colour.data, from = alpha.data;
  for (let i = 0; i < to.length; i += 4) to[i + 3] = from[i];
  return colour;
}

/** A connection that shows the newest picture on `canvas` and comes back when it is lost. */
export class Pictures {
  constructor(canvas, { view, rows, base = '', onState, onPicture, onConnection }) {
    this.canvas = canvas;
    this.context = canvas.getContext('2d', { willReadFrequently: false });
    this.stacked = new OffscreenCanvas(2, 2);
    this.stackedContext = this.stacked.getContext('2d', { willReadFrequently: true });
    this.view = view;
    this.rows = rows;
    this.base = base;  // where the session's page lies, seen from this one
    this.onState = onState ?? (() => {});
    this.onPicture = onPicture ?? (() => {});
    this.onConnection = onConnection ?? (() => {});
    this.wait = 500;
    this.next = null;
    this.drawing = false;
    this.connect();
  }

  connect() {
    const rows = this.rows ? `&rows=${this.rows}` : '';
    const address = new URL(`${this.base}api/live?view=${this.view}${rows}`, location.href);
    address.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(address);
    socket.binaryType = 'arraybuffer';
    this.socket = socket;
    socket.onopen = () => { this.wait = 500; this.onConnection(true, ''); };
    socket.onmessage = (event) => {
      if (typeof event.data === 'string') this.onState(JSON.parse(event.data));
      else { this.next = event.data; this.draw(); }
    };
    socket.onclose = (event) => {
      if (this.socket !== socket) return;
      this.onConnection(false, event.reason);
      setTimeout(() => { if (this.socket === socket) this.connect(); }, this.wait);
      this.wait = Math.min(10000, this.wait * 2);
    };
  }

  /** Stop, for good. */
  end() {
    const socket = this.socket;
    this.socket = null;
    socket.close();
  }

  /** Show something else: "result", "cutout" or "source". */
  show(view) {
    if (view === this.view) return;
    this.view = view;
    const old = this.socket;
    this.connect();
    old.close();
  }

  async draw() {
    if (this.drawing) return;
    this.drawing = true;
    try {
      while (this.next) {
        const socket = this.socket;
        const { header, map, jpeg } = parse(this.next);
        this.next = null;
        const picture = await createImageBitmap(new Blob([jpeg], { type: 'image/jpeg' }));
        this.put(picture, header.alpha);
        picture.close();
        this.latest = { header, map };
        this.onPicture(header, map);
        if (socket.readyState === WebSocket.OPEN) socket.send(`{"drawn":${header.sequence}}`);
      }
    } catch (error) {
      console.error('a picture could not be shown', error);
    } finally {
      this.drawing = false;
    }
  }

  put(picture, alpha) {
    const width = picture.width, height = alpha ? picture.height / 2 : picture.height;
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    if (!alpha) {
      this.context.drawImage(picture, 0, 0);
      return;
    }
    if (this.stacked.width !== width || this.stacked.height !== picture.height) {
      this.stacked.width = width;
      this.stacked.height = picture.height;
    }
    this.stackedContext.drawImage(picture, 0, 0);
    const colours = this.stackedContext.getImageData(0, 0, width, height);
    const alphas = this.stackedContext.getImageData(0, height, width, height);
    this.context.putImageData(recombine(colours, alphas), 0, 0);
  }
}
