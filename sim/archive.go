package sim

import (
	"encoding/binary"
	"fmt"

	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/shared/state"
)

// archive holds the documents of one world: its store keeps a number for each. Text takes half of a history's time, and most histories can do without: a document is
// copied where it would be encoded, and nobody changes the copy: the store copies it again for those who may change what they have read.
type archive struct{ docs []any }

func (a *archive) codecs() documents.Codecs {
	return documents.Codecs{NVA: codecOf(a, (*state.NVA).Copy), Target: codecOf(a, (*state.Target).Copy), Line: func(any) ([]byte, error) { return nil, nil }}
}

func codecOf[D any](a *archive, clone func(D) D) documents.Codec[D] {
	return documents.Codec[D]{
		Encode: func(doc D) ([]byte, error) {
			a.docs = append(a.docs, clone(doc))
			return binary.BigEndian.AppendUint32(nil, uint32(len(a.docs)-1)), nil
		},
		Decode: func(number []byte) (D, error) {
			doc, ok := a.docs[binary.BigEndian.Uint32(number)].(D)
			if !ok {
				return doc, fmt.Errorf("number %x is another kind of document", number)
			}
			return doc, nil
		},
	}
}

// empty forgets all documents, for another world.
func (a *archive) empty() {
	clear(a.docs)
	a.docs = a.docs[:0]
}
