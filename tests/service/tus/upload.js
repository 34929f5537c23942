// Drives the real tus-js-client: node upload.js ENDPOINT FILE OPTIONS, where OPTIONS is JSON:
// headers, metadata, chunkSize, uploadUrl, defer, override, withCreation, retryDelays, terminate,
// stopAt (bytes: the process ends there, and with it the connection).
// Prints one line of JSON: the upload's URL, or the error with its status and body.
import { createReadStream, readFileSync } from 'node:fs'
import { PassThrough } from 'node:stream'
import { Upload } from 'tus-js-client'

const [endpoint, path, text] = process.argv.slice(2)
const options = JSON.parse(text)

function say(what) {
  console.log(JSON.stringify(what))
  process.exit(0)
}

// A stream of unknown length: of a file's own stream the client takes the file's size, and sends
// wrong lengths when told to defer it.
const file = options.defer ? createReadStream(path).pipe(new PassThrough()) : readFileSync(path)
const upload = new Upload(file, {
  endpoint,
  uploadUrl: options.uploadUrl ?? null,
  uploadLengthDeferred: options.defer ?? false,
  overridePatchMethod: options.override ?? false,
  uploadDataDuringCreation: options.withCreation ?? false,
  headers: options.headers,
  metadata: options.metadata ?? {},
  chunkSize: options.chunkSize ?? Infinity,
  retryDelays: options.retryDelays ?? [0, 200, 500, 1000, 2000],
  onProgress(sent) {
    if (options.stopAt && sent >= options.stopAt) {
      say({ stopped: sent, url: upload.url })
    }
  },
  onSuccess() {
    say({ url: upload.url })
  },
  onError(error) {
    const response = error.originalResponse
    say({ error: error.message, status: response?.getStatus(), body: response?.getBody() })
  },
})

if (options.terminate) {
  await Upload.terminate(options.uploadUrl, { headers: options.headers })
  say({ terminated: options.uploadUrl })
} else {
  upload.start()
}
